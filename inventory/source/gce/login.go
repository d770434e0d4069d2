package gce

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// scope is what the driver needs too: the rights of the account are what limits it.
const scope = "https://www.googleapis.com/auth/compute"

// loginLimit is how long Google's token server, or that of an instance, may take.
const loginLimit = 30 * time.Second

// A login gets tokens and keeps them while they are good.
type login struct {
	fixed oauth2.TokenSource // instead of application default credentials

	mu     sync.Mutex
	source oauth2.TokenSource
}

// token returns one that is good; a fresh one if that before was refused.
func (l *login) token(ctx context.Context, fresh bool) (*oauth2.Token, error) {
	source, err := l.open(fresh)
	if err != nil {
		return nil, err
	}
	type result struct {
		token *oauth2.Token
		err   error
	}
	got := make(chan result, 1)
	go func() { // no TokenSource takes a context
		t, err := source.Token()
		got <- result{t, err}
	}()
	select {
	case r := <-got:
		var refused *oauth2.RetrieveError
		switch {
		case errors.As(r.err, &refused): // its own words hold all that the server said
			return nil, fmt.Errorf("cannot log in to Google Cloud: the token server answers %s %s\nrenew the credentials (gcloud auth application-default login), or name others in GOOGLE_APPLICATION_CREDENTIALS", refused.Response.Status, tidy(refused.ErrorCode))
		case r.err != nil:
			return nil, &LostError{fmt.Errorf("no token: %w", r.err)}
		}
		return r.token, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// open returns the source of tokens. What it does outlives the call that opened it.
func (l *login) open(fresh bool) (oauth2.TokenSource, error) {
	if l.fixed != nil {
		return l.fixed, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source != nil && !fresh {
		return l.source, nil
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: loginLimit})
	found, err := google.FindDefaultCredentials(ctx, scope)
	if err != nil {
		return nil, fmt.Errorf("cannot log in to Google Cloud: no application default credentials\nrun gcloud auth application-default login, or name a file in GOOGLE_APPLICATION_CREDENTIALS: %w", err)
	}
	l.source = found.TokenSource
	return l.source, nil
}
