package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// assets starts, in a script, what answers as Snipe-IT does with the assets of a file, two a page,
// to whoever has the token "abc", and puts its address into $ASSETS. While there is no file it
// refuses everybody.
func assets(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: assets FILE")
	}
	file := ts.MkAbs(args[0])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(file)
		if err != nil || r.Header.Get("Authorization") != "Bearer abc" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		var all []json.RawMessage
		if err := json.Unmarshal(text, &all); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		offset = min(offset, len(all))
		json.NewEncoder(w).Encode(map[string]any{"total": len(all), "rows": all[offset:min(offset+2, len(all))]})
	}))
	ts.Defer(server.Close)
	ts.Setenv("ASSETS", server.URL)
}
