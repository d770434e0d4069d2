package rescue

import (
	"net/http"
	"time"

	"unbrick/remediate/rescue/wire"
)

// Around puts h between agents and the server.
func (cfg Config) Around(h func(http.Handler) http.Handler) Config {
	cfg.around = h
	return cfg
}

// LetGo sets after how long a helper that says nothing has no disk open any more.
func (cfg Config) LetGo(after time.Duration) Config {
	cfg.letGo = after
	return cfg
}

// Judge is judge.
var Judge func(wire.Report) error = judge

// Read is read.
var Read = read

// Token returns the token of a target, which nobody else can.
var Token = (*Server).token
