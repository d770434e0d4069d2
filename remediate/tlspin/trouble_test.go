package tlspin_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"unbrick/remediate/tlspin"
)

// TestTrouble has servers give what the standard library makes errors of.
func TestTrouble(t *testing.T) {
	plain, sealed := httptest.NewServer(nil), httptest.NewTLSServer(nil)
	defer plain.Close()
	defer sealed.Close()
	_, asked := http.Get(strings.Replace(plain.URL, "http:", "https:", 1))
	_, unknown := http.Get(sealed.URL)
	_, dialled := tls.Dial("tcp", plain.Listener.Addr().String(), nil)
	_, silent := http.Get("https://127.0.0.1:1")
	for _, c := range []struct {
		err                  error
		plaintext, untrusted bool
	}{{asked, true, false}, {unknown, false, true}, {dialled, true, false}, {silent, false, false}} {
		if tlspin.Plaintext(c.err) != c.plaintext || tlspin.Untrusted(c.err) != c.untrusted {
			t.Errorf("%v: plaintext %v, untrusted %v", c.err, !c.plaintext, !c.untrusted)
		}
	}
}
