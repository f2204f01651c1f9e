package dns

import (
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// raw answers every question with the octets that answer makes of a reply.
func raw(t *testing.T, answer func(reply *dns.Msg) []byte) *Client {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Skip(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.AuthenticatedData = true
		w.Write(answer(m))
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	c := NewServers(pc.LocalAddr().String())
	c.DNSSEC = true
	return c
}

// pack makes a message with records in zone form.
func pack(t *testing.T, m *dns.Msg, records ...string) []byte {
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Error(err)
			return nil
		}
		m.Answer = append(m.Answer, rr)
	}
	m.Compress = true
	data, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return data
}

// One TLSA record that is too short must neither hide the others nor make it
// seem that there is none.
func TestShortTLSA(t *testing.T) {
	const name = "_25._tcp.mx.example"
	short := func(data string) string { return name + `. 60 IN TYPE65535 \# ` + data }
	const good = name + ". 60 IN TLSA 3 1 1 0102"
	for _, c := range []struct {
		records []string
		want    string
	}{
		{[]string{good}, "3 1 1 0102"},
		{[]string{short("2 0301"), good}, `\# 2 0301, 3 1 1 0102`},
		{[]string{good, short("1 03")}, `3 1 1 0102, \# 1 03`},
		{[]string{short("0")}, `\# 0 `},
		{[]string{name + ". 60 IN CNAME al.example.", `al.example. 60 IN TYPE65535 \# 2 0201`}, `\# 2 0201`},
	} {
		client := raw(t, func(m *dns.Msg) []byte {
			return []byte(strings.ReplaceAll(string(pack(t, m, c.records...)), "\xff\xff\x00\x01", "\x00\x34\x00\x01"))
		})
		ans, err := client.Lookup(t.Context(), name, TLSA)
		var got []string
		for _, r := range ans.Records {
			_, data, _ := strings.Cut(r.String(), "TLSA ")
			got = append(got, data)
			if r.Short != strings.HasPrefix(data, `\#`) {
				t.Errorf("%q: %+v", c.records, r)
			}
		}
		if err != nil || !ans.Secure || strings.Join(got, ", ") != c.want {
			t.Errorf("%q: %q %v", c.records, got, err)
		}
	}
}

// What is wrong with an answer is not that there is nothing.
func TestBrokenAnswers(t *testing.T) {
	const record = "mx.example. 60 IN A 192.0.2.1"
	for _, c := range []struct {
		what   string
		answer func(m *dns.Msg) []byte
		want   Status
	}{
		{"nothing", func(m *dns.Msg) []byte { return pack(t, m) }, NoData},
		{"records announced", func(m *dns.Msg) []byte {
			data := pack(t, m)
			data[7] = 1
			return data
		}, Temporary},
		{"a header that announces records", func(m *dns.Msg) []byte {
			data := pack(t, m, record)[:headerSize]
			data[5] = 0
			return data
		}, Temporary},
		{"half a record", func(m *dns.Msg) []byte {
			data := pack(t, m, record)
			return data[:len(data)-2]
		}, Temporary},
		{"half a record's head", func(m *dns.Msg) []byte {
			data := pack(t, m, record)
			return data[:len(data)-9]
		}, Temporary},
		{"a name that points to itself", func(m *dns.Msg) []byte {
			data := pack(t, m, record)
			data[len(data)-15] = byte(len(data) - 16)
			return data
		}, Temporary},
		{"no address", func(m *dns.Msg) []byte {
			data := pack(t, m, record)
			data = data[:len(data)-4]
			data[len(data)-1] = 0
			return data
		}, Invalid},
	} {
		_, err := raw(t, c.answer).Lookup(t.Context(), "mx.example", A)
		if StatusOf(err) != c.want {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// FuzzUnpack reads what anybody may send.
func FuzzUnpack(f *testing.F) {
	m := new(dns.Msg).SetQuestion("mx.example.", dns.TypeTLSA)
	m.Answer = []dns.RR{&dns.TLSA{Hdr: dns.RR_Header{Name: "mx.example.", Rrtype: dns.TypeTLSA, Class: dns.ClassINET}, Usage: 3, Certificate: "0102"}}
	data, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < headerSize {
			return
		}
		if msg, err := unpack(data); err == nil {
			extract(msg, "mx.example", "mx.example", TLSA)
		}
	})
}
