package address

// Parse splits a header value, a lookup result or a command line argument into
// an address list (routing.md §2.2). Comments, display names and groups stay in
// the list, so that it can be written again after the addresses changed. limit
// is as in Scan.
func Parse(text string, limit int) List {
	flat := Scan(text, limit)
	p := parser{out: make(List, 0, len(flat)+2)}
	for i := len(flat) - 1; i >= 0; i-- {
		p.token(flat[i])
	}
	p.flush()
	reverse(p.out)
	return p.out
}

type where uint8

const (
	inAddress where = iota // outside <>, collecting an address
	inAngle                // between < and >
	inPhrase               // left of <, display text
	inGroup                // left of a group colon, its name
)

// parser walks the tokens from right to left; out is the reversed result and
// cur the reversed words of the address being collected.
type parser struct {
	out, cur List
	state    where
	semi     bool // a ; was seen: colons start groups
}

func (p *parser) flush() {
	if len(p.cur) == 0 {
		return
	}
	words := append(List(nil), p.cur...)
	reverse(words)
	p.out = append(p.out, Token{Kind: Address, Tokens: words})
	p.cur = p.cur[:0]
}

func (p *parser) comma() { p.out = append(p.out, Token{Kind: Operator, Text: ","}) }

func (p *parser) token(t Token) {
	if t.Kind == Comment {
		p.out = append(p.out, t)
		return
	}
	if p.state == inAngle {
		if t.Is('<') {
			p.flush()
			p.out = append(p.out, t)
			p.state = inPhrase
			return
		}
		p.cur = append(p.cur, t)
		return
	}
	if t.Kind == Operator {
		switch t.Text[0] {
		case '>':
			p.flushBefore()
			p.out = append(p.out, t)
			p.state = inAngle
			return
		case ',':
			p.flush()
			p.out = append(p.out, t)
			p.state = inAddress
			return
		case ';':
			p.flushBefore()
			p.out = append(p.out, t)
			p.state, p.semi = inAddress, true
			return
		case ':':
			if p.state == inPhrase && !p.semi {
				p.out = append(p.out, t)
				p.state = inAddress
				return
			}
			if p.semi {
				p.flush()
				p.out = append(p.out, Token{Kind: Group, Text: ":"})
				p.state = inGroup
				return
			}
		}
	}
	if p.state == inAddress {
		if n := len(p.cur); n > 0 && isWord(p.cur[n-1].Kind) && isWord(t.Kind) {
			p.flush()
			p.comma()
		}
		p.cur = append(p.cur, t)
		return
	}
	p.out = append(p.out, t)
}

// flushBefore ends the address that stands right of a closing > or ;, which
// makes it an address of its own.
func (p *parser) flushBefore() {
	if len(p.cur) > 0 {
		p.flush()
		p.comma()
	}
}

func reverse(l List) {
	for i, j := 0, len(l)-1; i < j; i, j = i+1, j-1 {
		l[i], l[j] = l[j], l[i]
	}
}

// Addresses calls f for each address of a parsed list with its words.
func (l List) Addresses(f func(words List)) {
	for _, t := range l {
		if t.Kind == Address {
			f(t.Tokens)
		}
	}
}

// ExtractAddrs returns the addresses of a list in internal form.
func ExtractAddrs(text string) []string {
	var all []string
	Parse(text, 0).Addresses(func(words List) { all = append(all, words.Internal()) })
	return all
}
