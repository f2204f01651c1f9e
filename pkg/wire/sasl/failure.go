package sasl

import "encoding/base64"

// failure is an error in the words of the Cyrus library: detail is for the log
// and result for the peer.
type failure struct {
	result result
	detail string
}

func (f *failure) Error() string { return f.result.String() }

// Detail is the warning that belongs to it, "" if there is none.
func (f *failure) Detail() string {
	switch f.detail {
	case "":
		return ""
	case stepAfterEnd:
		return "SASL authentication problem: " + f.detail
	}
	return "SASL authentication failure: " + f.detail
}

// result is the outcome of a call of the Cyrus library.
type result int8

const (
	resultContinue  result = 1
	resultFail      result = -1
	resultNoMech    result = -4
	resultBadProt   result = -5
	resultBadParam  result = -7
	resultBadServer result = -10
	resultBadAuth   result = -13
	resultTooWeak   result = -15
	resultEncrypt   result = -16
)

var resultTexts = map[result]string{
	resultContinue: "another step is needed in authentication", resultFail: "generic failure", resultNoMech: "no mechanism available",
	resultBadProt: "bad protocol / cancel", resultBadParam: "invalid parameter supplied", resultBadServer: "server failed mutual authentication step",
	resultBadAuth: "authentication failure", resultTooWeak: "mechanism too weak for this user", resultEncrypt: "encryption needed to use mechanism",
}

func (r result) String() string { return resultTexts[r] }

// fail makes a failure; detail may be empty.
func fail(r result, detail string) *failure { return &failure{r, detail} }

// decode64 understands base64 and tells an incomplete group of four, which is
// "another step is needed" to the library, from bad text.
func decode64(s string) ([]byte, *failure) {
	whole := len(s) &^ 3
	data, err := base64.StdEncoding.DecodeString(s[:whole])
	switch {
	case err != nil:
		return nil, fail(resultBadProt, "")
	case whole < len(s):
		return nil, fail(resultContinue, "")
	}
	return data, nil
}

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
