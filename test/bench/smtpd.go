package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"posthaste/test/world"
)

// manySessions is how many sessions one smtpd is to hold, each under 60 kB.
const manySessions = 10000

// manyIdle opens manySessions on one smtpd and tells what each costs. The
// original would need as many processes, so that only ours is measured.
func manyIdle(w *world.World, _ int) (float64, error) {
	if err := restart(w, fmt.Sprintf("default_process_limit = %d", manySessions+200), "smtpd_peername_lookup = no"); err != nil {
		return 0, err
	}
	first, err := greet(w)
	if err != nil {
		return 0, err
	}
	defer first.Close()
	time.Sleep(time.Second)
	before, err := pss(w)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	err = inParallel(50, manySessions, func() error {
		c, err := greet(w)
		if err == nil {
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	time.Sleep(2 * time.Second)
	after, err := pss(w)
	return (after - before) / manySessions, err
}

// inParallel calls f n times, at most width calls at once; the first error
// counts.
func inParallel(width, n int, f func() error) error {
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	errs := make(chan error, width)
	for range width {
		go func() {
			for range work {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var first error
	for range width {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

func restart(w *world.World, settings ...string) error {
	if err := w.Stop(); err != nil {
		return err
	}
	if err := w.Set(settings...); err != nil {
		return err
	}
	return w.Start()
}

// Of slowList, 20 clients get an answer after slowAnswer; the others are not
// listed and hear so at once.
const (
	slowList   = "slow.test"
	slowAnswer = 5 * time.Second
	slowOnes   = 20
	quickOnes  = 100
)

// slowDNSBL is the time of a session (in ms, the median) whose own DNSBL query
// is quick while other sessions wait for a slow one.
func slowDNSBL(w *world.World, _ int) (float64, error) {
	pc, err := w.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		return 0, err
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(answerList)}
	go server.ActivateAndServe()
	defer server.Shutdown()
	for _, file := range []string{"/etc/resolv.conf", "/var/spool/postfix/etc/resolv.conf"} {
		if err := os.WriteFile(w.Path(file), []byte("nameserver 127.0.0.1\noptions timeout:10 attempts:2\n"), 0o644); err != nil {
			return 0, err
		}
	}
	if err := restart(w, "smtpd_client_restrictions = reject_rbl_client "+slowList, "smtpd_peername_lookup = no",
		"smtpd_authorized_xclient_hosts = 127.0.0.0/8"); err != nil {
		return 0, err
	}
	var waiting sync.WaitGroup
	slow := make([]time.Duration, slowOnes)
	for i := range slow {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			slow[i], _ = askOnce(w, fmt.Sprintf("192.0.2.%d", i+1))
		}()
	}
	time.Sleep(time.Second)
	var took []float64
	for i := range quickOnes {
		d, err := askOnce(w, fmt.Sprintf("198.51.100.%d", i+1))
		if err != nil {
			return 0, err
		}
		took = append(took, float64(d.Microseconds())/1000)
	}
	waiting.Wait()
	for _, d := range slow {
		if d < slowAnswer {
			return 0, fmt.Errorf("a slow query was not waited for: %v", d)
		}
	}
	return median(took), nil
}

// answerList is the DNSBL: nobody is listed, but for clients in 192.0.2.0/24
// it takes its time to say so.
func answerList(rw dns.ResponseWriter, q *dns.Msg) {
	if strings.HasSuffix(q.Question[0].Name, ".2.0.192."+slowList+".") {
		time.Sleep(slowAnswer)
	}
	m := new(dns.Msg)
	m.SetRcode(q, dns.RcodeNameError)
	rw.WriteMsg(m)
}

// askOnce is a session up to the reply to RCPT, as that client; the time is
// that of RCPT.
func askOnce(w *world.World, client string) (time.Duration, error) {
	c, err := greet(w)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	begin := time.Now()
	for _, line := range []string{"XCLIENT ADDR=" + client + " NAME=[UNAVAILABLE]", "HELO client.test", "MAIL FROM:<a@example.com>", "RCPT TO:<alice@mail.example.com>"} {
		begin = time.Now()
		fmt.Fprintf(c, "%s\r\n", line)
		reply, err := r.ReadString('\n')
		if err != nil || reply[0] != '2' {
			return 0, fmt.Errorf("%s: %q %v", line, reply, err)
		}
	}
	return time.Since(begin), nil
}
