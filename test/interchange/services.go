package interchange

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	gomilter "github.com/d--j/go-milter"
	"github.com/miekg/dns"

	"posthaste/test/world"
)

// helpers are the other servers that a machine needs: DNS, a Milter, a
// Dovecot login server.
type helpers struct {
	sink *sink
	stop []func()
}

// identity is the certificate of sink.test and mail.example.com.
var identity = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example.com"}, DNSNames: []string{"mail.example.com", "sink.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{certificate}, PrivateKey: key}, err
})

// install puts the identity where main.cf says.
func install(w *world.World, c tls.Certificate) error {
	private, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	file := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})...)
	return os.WriteFile(w.Path("/etc/postfix/test.pem"), file, 0o600)
}

func startHelpers(w *world.World) (*helpers, error) {
	h := &helpers{}
	certificate, err := identity()
	if err == nil {
		err = install(w, certificate)
	}
	if err != nil {
		return h, err
	}
	s, stop, err := startSink(w, certificate)
	if err != nil {
		return h, err
	}
	h.sink, h.stop = s, append(h.stop, stop)
	names, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return h, err
	}
	resolver := &dns.Server{PacketConn: names, Handler: dns.HandlerFunc(answer)}
	go resolver.ActivateAndServe()
	h.stop = append(h.stop, func() { names.Close() })
	filter, err := w.Listen("tcp", "127.0.0.1:7001")
	if err != nil {
		return h, err
	}
	m := gomilter.NewServer(gomilter.WithMilter(func() gomilter.Milter { return &scanner{} }), gomilter.WithActions(gomilter.OptAddHeader|gomilter.OptAddRcpt|gomilter.OptQuarantine))
	go m.Serve(filter)
	h.stop = append(h.stop, func() { m.Close() })
	logins, err := w.Listen("tcp", "127.0.0.1:7003")
	if err != nil {
		return h, err
	}
	go serveLogins(logins)
	h.stop = append(h.stop, func() { logins.Close() })
	return h, nil
}

func (h *helpers) close() {
	for _, stop := range h.stop {
		stop()
	}
}

// listed is the battery's DNS.
var listed = map[string][]string{
	"1.0.0.127.bl.test. A":   {"127.0.0.2", "127.0.0.4"},
	"1.0.0.127.bl.test. TXT": {"listed for the battery"},
	"2.2.0.192.bl.test. A":   {"127.0.0.3"},
}

func answer(w dns.ResponseWriter, q *dns.Msg) {
	r := new(dns.Msg)
	r.SetReply(q)
	r.Authoritative = true
	name, kind := strings.ToLower(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype]
	for _, data := range listed[name+" "+kind] {
		if kind == "TXT" {
			data = `"` + data + `"`
		}
		if rr, err := dns.NewRR(fmt.Sprintf("%s 300 IN %s %s", name, kind, data)); err == nil {
			r.Answer = append(r.Answer, rr)
		}
	}
	if len(r.Answer) == 0 {
		if listed[name+" A"] == nil {
			r.Rcode = dns.RcodeNameError
		}
		soa, _ := dns.NewRR("test. 200 IN SOA ns.test. root.test. 1 1 1 1 100")
		r.Ns = append(r.Ns, soa)
	}
	w.WriteMsg(r)
}

// scanner is a Milter that adds a header, and a recipient where one is called
// "copy…", and refuses recipients called "mreject…".
type scanner struct {
	gomilter.NoOpMilter
	more bool
}

func (s *scanner) MailFrom(string, string, gomilter.Modifier) (*gomilter.Response, error) {
	s.more = false
	return gomilter.RespContinue, nil
}

func (s *scanner) RcptTo(to, _ string, _ gomilter.Modifier) (*gomilter.Response, error) {
	if strings.HasPrefix(to, "mreject") {
		return gomilter.RejectWithCodeAndReason(550, "5.7.1 not past the filter")
	}
	s.more = s.more || strings.HasPrefix(to, "copy")
	return gomilter.RespContinue, nil
}

func (s *scanner) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	if s.more {
		if err := m.AddRecipient("<added@sink.test>", ""); err != nil {
			return nil, err
		}
	}
	return gomilter.RespContinue, m.AddHeader("X-Scanned", "by go-milter")
}

// serveLogins is a Dovecot login server (spec ipc.md §3.4) where joe's
// password is "secret".
func serveLogins(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			fmt.Fprint(c, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\tx\nDONE\n")
			for in := bufio.NewScanner(c); in.Scan(); {
				words := strings.Split(in.Text(), "\t")
				if words[0] != "AUTH" || len(words) < 3 {
					continue
				}
				if strings.HasSuffix(in.Text(), "\tresp="+plain("joe", "secret")) {
					fmt.Fprintf(c, "OK\t%s\tuser=joe\n", words[1])
				} else {
					fmt.Fprintf(c, "FAIL\t%s\tuser=joe\treason=wrong\n", words[1])
				}
			}
		}()
	}
}

// plain is the response of AUTH PLAIN.
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}
