package mailtls

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// keyServer is a source of keys with an hour's life.
type keyServer struct {
	keys []TicketKey // the newest first
	now  *time.Time
	asks int
	err  error
}

func (s *keyServer) find(_ context.Context, name []byte) (TicketKey, bool, error) {
	s.asks++
	if s.err != nil {
		return TicketKey{}, false, s.err
	}
	if len(name) == 0 {
		if len(s.keys) == 0 || s.now.After(s.keys[0].Until) {
			n := byte(len(s.keys) + 1)
			s.keys = append([]TicketKey{NewTicketKey([16]byte{n}, [32]byte{n}, [32]byte{}, s.now.Add(30*time.Minute))}, s.keys...)
		}
		return s.keys[0], true, nil
	}
	for _, k := range s.keys {
		if string(k.Name[:]) == string(name) {
			return k, true, nil
		}
	}
	return TicketKey{}, false, nil
}

// Keys come from the source, are kept for their time, and are replaced by own
// ones while the source is silent.
func TestTicketKeys(t *testing.T) {
	now := time.Unix(1e9, 0)
	source := &keyServer{now: &now}
	tickets := &Tickets{Life: time.Hour, Now: func() time.Time { return now }, Source: source.find}
	ctx := t.Context()
	first := tickets.current(ctx)
	if again := tickets.current(ctx); again.Name != first.Name || first.own || source.asks != 1 {
		t.Error("not the source's key, or asked for twice", source.asks)
	}
	now = now.Add(31 * time.Minute)
	second := tickets.current(ctx)
	if second.Name == first.Name || source.asks != 2 {
		t.Error("the key did not change")
	}
	if _, found := tickets.named(ctx, first.Name[:]); !found || source.asks != 2 {
		t.Error("the first key is gone", source.asks)
	}
	source.err = errors.New("down")
	now = now.Add(40 * time.Minute)
	third := tickets.current(ctx)
	if !third.own {
		t.Error("a key without a source")
	}
	if _, found := tickets.named(ctx, first.Name[:]); found {
		t.Error("the first key is still good")
	}
	asks := source.asks
	tickets.current(ctx)
	tickets.named(ctx, make([]byte, 16))
	if source.asks != asks {
		t.Error("a source that is down was asked again at once")
	}
	source.err = nil
	now = now.Add(askAgain)
	if fourth := tickets.current(ctx); fourth.own {
		t.Error("the source is back but was not asked")
	}
	if _, found := tickets.named(ctx, third.Name[:]); !found {
		t.Error("our own key is gone")
	}
}

// One process opens the tickets of another.
func TestTicketsAreShared(t *testing.T) {
	leaf, key := anchorCert(t, "mx.example", time.Hour, nil, nil)
	cert := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
	now := time.Now()
	source := &keyServer{now: &now}
	sessions := tls.NewLRUClientSessionCache(1)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for i, shared := range []bool{true, true, false} {
			tickets := &Tickets{Life: time.Hour, Now: time.Now, Source: source.find}
			if !shared {
				tickets.Source = nil
			}
			client, server := loopback(t)
			var use TicketUse
			cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}
			tickets.Arm(t.Context(), cfg, &use)
			done := make(chan error, 1)
			go func() {
				c := tls.Server(server, cfg)
				err := c.Handshake()
				c.Write([]byte("x"))
				done <- err
			}()
			c := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: "a", ClientSessionCache: sessions})
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			want := i == 1
			if got := c.ConnectionState().DidResume; got != want || use.Opened.IsZero() == want {
				t.Errorf("%s, connection %d: resumed is %v, %+v", VersionName(version), i, got, use)
			}
			client.Close()
			server.Close()
		}
		sessions = tls.NewLRUClientSessionCache(1)
	}
}

// FuzzTicket: what a client sends as a ticket is anything.
func FuzzTicket(f *testing.F) {
	f.Add([]byte("0123456789abcdef and the rest of it, which is longer than all that"))
	tickets := &Tickets{Life: time.Hour, Now: time.Now}
	name := tickets.current(context.Background()).Name
	f.Add(append(name[:], make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := &tls.Config{}
		var use TicketUse
		tickets.Arm(t.Context(), cfg, &use)
		if state, _ := cfg.UnwrapSession(data, tls.ConnectionState{}); state != nil {
			t.Error("a ticket that was never issued")
		}
	})
}

// loopback is a connection; a pipe without a buffer would have both sides wait
// for each other, with a ticket and the end of the handshake.
func loopback(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}
