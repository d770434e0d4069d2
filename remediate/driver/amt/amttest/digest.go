package amttest

import (
	"crypto/md5" // what AMT's digest authentication is made of
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// A nonce is one that was given out: each counter value is good once.
type nonce struct {
	last uint64
	uses int
}

// maxNonces is how many are remembered; the oldest clients get a new challenge.
const maxNonces = 64

// authenticate checks a request's digest (RFC 7616, MD5, qop auth). If it is not right, it
// returns the challenge to answer with.
func (a *AMT) authenticate(r *http.Request) (challenge string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	header, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Digest ")
	if !ok {
		return a.challenge(false)
	}
	p := parseDigest(header)
	known := a.nonces[p["nonce"]]
	count, err := strconv.ParseUint(p["nc"], 16, 32)
	switch {
	case known == nil, err == nil && count <= known.last, a.opt.NonceUses > 0 && known.uses >= a.opt.NonceUses:
		return a.challenge(true)
	case err != nil || p["qop"] != "auth" || p["cnonce"] == "" || p["realm"] != a.realm || p["uri"] != r.URL.RequestURI():
		return a.challenge(false)
	}
	ha1 := md5Hex(a.opt.User, a.realm, a.opt.Password)
	ha2 := md5Hex(r.Method, p["uri"])
	want := md5Hex(ha1, p["nonce"], p["nc"], p["cnonce"], p["qop"], ha2)
	right := p["username"] == a.opt.User && a.opt.User != "" &&
		subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(p["response"]))) == 1
	if !right {
		return a.challenge(false)
	}
	known.last = count
	known.uses++
	return ""
}

// challenge gives out a nonce. The caller holds mu.
func (a *AMT) challenge(stale bool) string {
	if len(a.nonces) >= maxNonces {
		clear(a.nonces)
	}
	n := randomHex(16)
	a.nonces[n] = &nonce{}
	return fmt.Sprintf(`Digest realm="%s", nonce="%s",stale="%t",qop="auth"`, a.realm, n, stale)
}

func md5Hex(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(sum[:])
}

// parseDigest splits name=value pairs, with the value in quotes or not.
func parseDigest(header string) map[string]string {
	p := map[string]string{}
	for header != "" {
		name, rest, ok := strings.Cut(header, "=")
		if !ok {
			break
		}
		var value string
		if quoted, is := strings.CutPrefix(rest, `"`); is {
			value, rest, _ = strings.Cut(quoted, `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		p[strings.ToLower(strings.Trim(name, " ,"))] = strings.TrimSpace(value)
		header = rest
	}
	return p
}
