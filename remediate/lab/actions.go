package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"unbrick/remediate/driver/redfish/redfishtest"
)

// An actionLog is actions.jsonl: what every host really saw, in the order it saw it.
type actionLog struct {
	mu  sync.Mutex
	f   *os.File
	buf *bufio.Writer
}

func openActions(name string) (*actionLog, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("cannot write what the hosts see: %w", err)
	}
	return &actionLog{f: f, buf: bufio.NewWriter(f)}, nil
}

// An Action is one line of actions.jsonl.
type Action struct {
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	Action string    `json:"action"` // "power on", "boot cd", "insert", "crash", "up", …
	Detail string    `json:"detail,omitempty"`
}

func (l *actionLog) write(host, action, detail string) {
	line, _ := json.Marshal(Action{time.Now().UTC(), host, action, detail})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(append(line, '\n'))
	l.buf.Flush() // a person follows it with tail -f
}

// recorder returns what the BMC of one host calls for each thing it does.
func (l *actionLog) recorder(host string) func(redfishtest.Action) {
	return func(a redfishtest.Action) { l.write(host, a.Kind, a.Detail) }
}

func (l *actionLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Flush()
	return l.f.Close()
}
