package sourcetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A Service is what stands in front of every fake of a vendor's API: it asks who it is, lets
// tokens expire and refuses those who ask too often.
type Service struct {
	Next http.Handler

	// Authorization is what requests have to carry, "Bearer …". If Login is set, tokens are
	// given out there instead (OAuth 2.0 client credentials, client "me", secret [Secret]) and
	// each is good for Lives requests.
	Authorization string
	Login         string
	Lives         int

	// Every so many requests one is refused with status 429 and the header that Wait sets.
	Busy int
	Wait func(http.Header)
	// Down answers 403 from that request on, as if a right were taken away; 0 never.
	Down int

	mu               sync.Mutex
	asked, token     int
	lives            int
	Logins, Refusals int
}

// Secret is the secret of the client "me".
const Secret = "s3cret"

// Start serves it until the test ends and returns its address.
func (s *Service) Start(t *testing.T) string {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// Secretly writes a text to a file and returns the reference to it that configurations take.
func Secretly(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "file:" + name
}

func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status := s.admit(w, r); status != 0 {
		w.WriteHeader(status)
		return
	}
	if s.Login == "" || r.URL.Path != s.Login {
		s.Next.ServeHTTP(w, r)
	}
}

// admit returns the status of a refusal, or 0.
func (s *Service) admit(w http.ResponseWriter, r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Login != "" && r.URL.Path == s.Login {
		if r.ParseForm(); r.Form.Get("client_id") != "me" || r.Form.Get("client_secret") != Secret || r.Form.Get("grant_type") != "client_credentials" {
			return http.StatusUnauthorized
		}
		s.token++
		s.lives = s.Lives
		s.Logins++
		json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", s.token), "token_type": "Bearer", "expires_in": 1800})
		return 0
	}
	want := s.Authorization
	if s.Login != "" {
		want = fmt.Sprint("Bearer t", s.token)
		if s.Lives > 0 && s.lives == 0 {
			return http.StatusUnauthorized
		}
	}
	if r.Header.Get("Authorization") != want {
		return http.StatusUnauthorized
	}
	s.asked++
	if s.Down > 0 && s.asked >= s.Down {
		return http.StatusForbidden
	}
	if s.Busy > 0 && s.asked%s.Busy == 0 {
		s.Refusals++
		if s.Wait != nil {
			s.Wait(w.Header())
		}
		return http.StatusTooManyRequests
	}
	s.lives--
	return 0
}
