package ec2test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// readForm returns the parameters of a request, whose body can be read again.
func readForm(r *http.Request) (url.Values, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return url.ParseQuery(string(b))
}

// authentic checks the signature of a request (AWS General Reference, "Signature Version 4").
func (s *Server) authentic(r *http.Request, service string) *apiError {
	head, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return refuse("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	said := map[string]string{}
	for part := range strings.SplitSeq(head, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		said[k] = v
	}
	key, scope, _ := strings.Cut(said["Credential"], "/")
	fields := strings.Split(scope, "/")
	if key != s.Key || len(fields) != 4 || fields[1] != s.Region || fields[2] != service {
		return &apiError{http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials"}
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var headers strings.Builder
	for name := range strings.SplitSeq(said["SignedHeaders"], ";") {
		v := r.Header.Get(name)
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = r.Header.Get("Content-Length")
			if v == "" {
				v = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		headers.WriteString(name + ":" + strings.TrimSpace(v) + "\n")
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical := strings.Join([]string{r.Method, path, r.URL.RawQuery, headers.String(), said["SignedHeaders"], hash(body)}, "\n")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hash([]byte(canonical))}, "\n")
	k := []byte("AWS4" + s.Secret)
	for _, f := range append(fields, text) {
		m := hmac.New(sha256.New, k)
		m.Write([]byte(f))
		k = m.Sum(nil)
	}
	if hex.EncodeToString(k) != said["Signature"] {
		return &apiError{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
