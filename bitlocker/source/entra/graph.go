package entra

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A PermissionError says which permissions the account lacks.
type PermissionError struct {
	Missing []string
	AppOnly bool // it is an application; otherwise a person signed in
}

// Error says what to grant, and to whom.
func (e *PermissionError) Error() string {
	what := strings.Join(e.Missing, " and ")
	if e.AppOnly {
		return fmt.Sprintf("the application lacks %s: grant the application permission and the administrator's consent", what)
	}
	return fmt.Sprintf("the person who signed in lacks %s: grant the delegated permission, and a role that may read keys "+
		"(Cloud Device, Helpdesk, Intune Service or Security Administrator, Security Reader, Global Reader)", what)
}

// A statusError is an answer that is neither success nor a matter of waiting. Of the server's
// words only the code is kept, and only if it is one word.
type statusError struct {
	status int
	code   string
}

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("Graph answers with status %d %s", e.status, e.code))
}

// isNotFound says whether Graph itself has said that there is none: a proxy's 404 has no code.
func isNotFound(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.status == http.StatusNotFound && s.code != ""
}

// How often one request is tried while Graph says to come later.
const (
	tries   = 6
	maxBody = 64 << 20
)

// get reads one resource.
func (t *Tenant) get(ctx context.Context, path, permission string) ([]byte, error) {
	return t.call(ctx, http.MethodGet, path, permission)
}

// call makes one request, in the pace that Graph allows. An expired token is renewed once.
func (t *Tenant) call(ctx context.Context, method, path, permission string) ([]byte, error) {
	renewed, refused := false, ""
	for try := 1; ; try++ {
		if err := t.pace.wait(ctx); err != nil {
			return nil, err
		}
		token, err := t.tokens.get(ctx, t, refused)
		if err != nil {
			return nil, err
		}
		raw, res, err := t.send(ctx, method, t.cfg.Graph+path, token.Reveal())
		if err != nil {
			return nil, err
		}
		switch res.StatusCode {
		case http.StatusOK, http.StatusNoContent:
			t.pace.faster()
			return raw, nil
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			t.pace.slower(retryAfter(res.Header.Get("Retry-After"), time.Now()))
			if try == tries {
				return nil, fmt.Errorf("Graph throttles: refused %d times, ask less at once or later", tries)
			}
		case http.StatusUnauthorized:
			if renewed {
				return nil, errors.New("Graph refuses the token, and a new one too: is it for this tenant, and is the clock right?")
			}
			renewed, refused = true, token.Reveal()
		case http.StatusForbidden:
			c, _ := readClaims(token)
			return nil, &PermissionError{Missing: []string{permission}, AppOnly: c.appOnly()}
		default:
			return nil, &statusError{res.StatusCode, errorCode(raw)}
		}
	}
}

// send makes one request, with the headers that the reference asks for.
func (t *Tenant) send(ctx context.Context, method, address, token string) ([]byte, *http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, nil, errors.New("cannot ask Graph: the address is not valid")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "unbrick/1")
	req.Header.Set("ocp-client-name", "unbrick")
	req.Header.Set("ocp-client-version", "1")
	return t.do(req, "Graph")
}

// do sends a request and reads all of the answer.
func (t *Tenant) do(req *http.Request, what string) ([]byte, *http.Response, error) {
	res, err := t.client.Do(req)
	if err != nil {
		var u *url.Error // names the address, which the source's name has already
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, nil, fmt.Errorf("cannot reach %s: %w", what, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the answer of %s: %w", what, err)
	}
	return raw, res, nil
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, t *Tenant, path, permission string) (all []T, err error) {
	for seen := map[string]bool{}; ; {
		raw, err := t.get(ctx, path, permission)
		if err != nil {
			return nil, err
		}
		var page struct {
			Value *[]T   `json:"value"`
			Next  string `json:"@odata.nextLink"`
		}
		if err := decode(raw, &page); err != nil {
			return nil, err
		}
		if page.Value == nil {
			return nil, errors.New("the answer of Graph is no list")
		}
		all = append(all, *page.Value...)
		if page.Next == "" {
			return all, nil
		}
		var ok bool
		if path, ok = strings.CutPrefix(page.Next, t.cfg.Graph+"/"); !ok {
			return nil, errors.New("the next page is said to be at another server: the token does not go there")
		}
		path = "/" + path
		if seen[path] {
			return nil, errors.New("the pages of Graph go round in a circle")
		}
		seen[path] = true
	}
}

// decode reads JSON. Its error does not quote the text.
func decode(raw []byte, into any) error {
	if json.Unmarshal(raw, into) != nil {
		return errors.New("the answer of Graph is not the JSON expected")
	}
	return nil
}

// errorCode returns the code of an error, such as "Request_ResourceNotFound", or "".
func errorCode(raw []byte) string {
	var res struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(raw, &res) != nil {
		return ""
	}
	for _, r := range res.Error.Code {
		if r != '_' && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return ""
		}
	}
	return res.Error.Code
}

// retryAfter reads the header in both of its forms. It may be missing: that is zero.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(header); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 3600))*time.Second, time.Hour)
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), time.Hour)
	}
	return 0
}
