package smtpsource

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"posthaste/pkg/command/load"
)

const (
	maxReplyLines = 100
	lineLength    = 80 // of the lines of -l, with CR LF
	anything      = 0  // will do as the first digit of a reply
	dateLayout    = "Mon, _2 Jan 2006 15:04:05 -0700 (MST)"
)

// stock is the text that is sent without -l and -F.
const stock = "La de da de da 1.\r\nLa de da de da 2.\r\nLa de da de da 3.\r\nLa de da de da 4.\r\n"

// session sends messages, over one connection each or over one for all, until
// there is none left. Without -A a refusal ends the program.
func (t *tool) session(number int) error {
	var c *load.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for first := true; ; first = false {
		rest, ok := t.Take()
		if !ok {
			break
		}
		if !first {
			t.Pause.Wait()
		}
		if c == nil {
			var err error
			if c, err = t.Dial(); err != nil {
				return err
			}
			if err := t.hello(c); err != nil {
				return err
			}
		}
		if err := t.message(c, number, rest); err != nil {
			return err
		}
		if !t.keep {
			if err := t.bye(c); err != nil {
				return err
			}
			c = nil
		}
	}
	if c == nil {
		return nil
	}
	err := t.bye(c)
	c = nil
	return err
}

// reply reads one; the last line counts, as the code of each is the same.
func (t *tool) reply(c *load.Conn, doing string) (code int, text string, err error) {
	for range maxReplyLines {
		line, err := c.R.ReadSlice('\n')
		if err != nil {
			return 0, "", load.Lost(err, doing)
		}
		line = bytes.TrimRight(line, "\r\n")
		if t.log.Verbose() > 0 {
			t.log.Info("<<< %s", line)
		}
		more := len(line) > 3 && line[3] == '-'
		code, rest := number(line)
		if text += rest; !more {
			return code, text, nil
		}
		text += "\n"
	}
	return 0, "", fmt.Errorf("too many reply lines while %s", doing)
}

// number splits the code off a reply line; it is 0 when there is none.
func number(line []byte) (code int, text string) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, string(line)
	}
	code, err := strconv.Atoi(string(line[:3]))
	if err != nil || code < 100 {
		return 0, string(line)
	}
	return code, string(line[min(4, len(line)):])
}

// ask sends a command and reads its reply. refused says that it is not the
// one hoped for and that we were told not to mind.
func (t *tool) ask(c *load.Conn, doing, what string, want int, command ...string) (refused bool, err error) {
	if t.log.Verbose() > 0 && len(command) > 0 {
		line := ""
		for _, word := range command {
			line += word
		}
		t.log.Info("%s", line)
	}
	for _, word := range command {
		if _, err := c.W.WriteString(word); err != nil {
			return false, load.Lost(err, doing)
		}
	}
	if len(command) > 0 {
		if _, err := c.W.WriteString("\r\n"); err != nil {
			return false, load.Lost(err, doing)
		}
	}
	if err := c.Flush(); err != nil {
		return false, load.Lost(err, doing)
	}
	code, text, err := t.reply(c, doing)
	if err != nil || want == anything || code/100 == want {
		return false, err
	}
	if !t.tolerant {
		return true, fmt.Errorf("%s: %d %s", what, code, text)
	}
	t.log.Warn("%s: %d %s", what, code, text)
	return true, nil
}

func (t *tool) hello(c *load.Conn) error {
	if _, err := t.ask(c, "reading server greeting", "rejected at server banner", 2); err != nil || t.old {
		return err
	}
	word := "HELO"
	if t.lmtp {
		word = "LHLO"
	}
	_, err := t.ask(c, "sending "+word, word+" rejected", 2, word+" ", t.Host)
	return err
}

// message sends one. A transaction that is refused, by a server that we
// tolerate, is reset.
func (t *tool) message(c *load.Conn, session, rest int) error {
	accepted := 0
	refused, err := t.ask(c, "sending sender", "sender rejected", 2, "MAIL FROM:<", t.From, ">")
	if err == nil && !refused {
		accepted, err = t.recipients(c)
		refused = accepted == 0
	}
	if err == nil && !refused {
		refused, err = t.ask(c, "sending DATA command", "data rejected", 3, "DATA")
	}
	if err != nil {
		return err
	}
	if refused {
		return t.tell(c, "RSET")
	}
	t.Done()
	if err := t.content(c, session, rest); err != nil {
		return load.Lost(err, sending)
	}
	return t.dot(c, accepted)
}

// recipients sends them; as long as one is accepted the message is sent.
func (t *tool) recipients(c *load.Conn) (accepted int, err error) {
	for n := t.Recipients; n > 0; n-- {
		refused, err := t.ask(c, "sending recipient", "recipient rejected", 2, "RCPT TO:<", t.prefix(n), t.To, ">")
		if err != nil {
			return accepted, err
		}
		if !refused {
			accepted++
		}
	}
	return accepted, nil
}

// sending is what goes on from DATA to the end of a connection.
const sending = "sending message"

// dot ends a message; LMTP answers once an accepted recipient.
func (t *tool) dot(c *load.Conn, recipients int) error {
	const what = "end of data rejected"
	if _, err := t.ask(c, sending, what, 2, "."); err != nil || !t.lmtp {
		return err
	}
	for range recipients - 1 {
		if _, err := t.ask(c, sending, what, 2); err != nil {
			return err
		}
	}
	return nil
}

// tell sends a command to which any answer will do.
func (t *tool) tell(c *load.Conn, command string) error {
	_, err := t.ask(c, sending, "", anything, command)
	return err
}

// prefix is the number in front of the nth last recipient.
func (t *tool) prefix(n int) string {
	switch {
	case t.numbered:
		return strconv.FormatInt(t.serial.Add(1), 10)
	case n > 1:
		return strconv.Itoa(n)
	}
	return ""
}

// bye ends a session.
func (t *tool) bye(c *load.Conn) error {
	defer c.Close()
	return t.tell(c, "QUIT")
}

func (t *tool) content(c *load.Conn, session, rest int) error {
	if t.file != "" {
		_, err := c.W.Write(t.body)
		return err
	}
	if !t.old {
		fmt.Fprintf(c.W, "From: <%s>\r\nTo: <%s>\r\nDate: %s\r\nMessage-Id: <%04x.%04x.%04x@%s>\r\n",
			t.From, t.To, time.Now().Format(dateLayout), os.Getpid(), session, rest, t.Host)
		if t.subject != "" {
			fmt.Fprintf(c.W, "Subject: %s\r\n", t.subject)
		}
		if _, err := c.W.WriteString("\r\n"); err != nil {
			return err
		}
	}
	if t.Length == 0 {
		_, err := c.W.WriteString(stock)
		return err
	}
	return payload(c.W, t.Length)
}

var filler = bytes.Repeat([]byte{'X'}, lineLength)

// payload writes numbered lines, and a last one of the bytes that remain, whose
// CR LF is not counted.
func payload(w io.Writer, length int) error {
	line := make([]byte, 0, lineLength)
	for n := 1; length > lineLength; n++ {
		line = strconv.AppendInt(line[:0], int64(n), 10)
		line = append(line, filler[:lineLength-2-len(line)]...)
		line = append(line, "\r\n"...)
		if _, err := w.Write(line); err != nil {
			return err
		}
		length -= lineLength
	}
	_, err := fmt.Fprintf(w, "%s\r\n", filler[:length])
	return err
}
