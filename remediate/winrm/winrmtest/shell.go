package winrmtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A shell is one that a client opened.
type shell struct {
	id       string
	mu       sync.Mutex
	commands map[string]*process
}

func (sh *shell) end() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, p := range sh.commands {
		p.cancel()
	}
}

// A process is a command that runs or ran.
type process struct {
	cancel  context.CancelFunc
	console bool
	in      *pipe

	mu       sync.Mutex
	changed  chan struct{} // closed when there is something to say
	out, err bytes.Buffer
	done     bool
	code     int
}

// A pipe is standard input: it takes everything at once.
type pipe struct {
	mu     sync.Mutex
	cond   *sync.Cond
	buf    bytes.Buffer
	closed bool
}

func newPipe() *pipe {
	p := &pipe{}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.buf.Len() == 0 && !p.closed {
		p.cond.Wait()
	}
	if p.buf.Len() == 0 {
		return 0, io.EOF
	}
	return p.buf.Read(b)
}

func (p *pipe) put(b []byte, end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.buf.Write(b)
	p.closed = p.closed || end
	p.cond.Broadcast()
}

// A stream is where a process prints to.
type stream struct {
	p   *process
	buf *bytes.Buffer
}

func (s stream) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.buf.Write(b)
	s.p.tell()
	return len(b), nil
}

// tell wakes who waits for output. The caller holds mu.
func (p *process) tell() {
	select {
	case <-p.changed:
	default:
		close(p.changed)
	}
}

func (s *Server) do(r *http.Request, op Op, e *envelope) (string, error) {
	switch op {
	case Create:
		return s.create(e)
	case Get:
		return s.get(e)
	}
	s.mu.Lock()
	sh := s.shells[e.selector("ShellId")]
	if sh != nil && op == Delete {
		delete(s.shells, sh.id)
	}
	s.mu.Unlock()
	if sh == nil {
		return "", errNoShell
	}
	switch op {
	case Delete:
		sh.end()
		return "", nil
	case Execute:
		return s.execute(sh, e)
	case Send:
		return "", sh.send(e)
	case Receive:
		return s.receive(r, sh, e)
	case Signal:
		sh.mu.Lock()
		p := sh.commands[e.Body.Signal.Command]
		sh.mu.Unlock()
		if p == nil {
			return "", errNoCommand
		}
		p.cancel()
		return `<rsp:SignalResponse/>`, nil
	}
	return "", errAction
}

func (s *Server) create(e *envelope) (string, error) {
	if !strings.Contains(e.Body.Shell.Output, "stdout") {
		return "", errSchema
	}
	if idle := e.Body.Shell.Idle; idle != "" {
		if _, err := timeout(idle); err != nil {
			return "", err
		}
	}
	sh := &shell{id: rand.Text(), commands: map[string]*process{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shells) >= s.opt.MaxShells {
		return "", errShells
	}
	s.shells[sh.id] = sh
	return fmt.Sprintf(`<x:ResourceCreated><a:Address>http://host1/wsman</a:Address><a:ReferenceParameters><w:ResourceURI>%s</w:ResourceURI>`+
		`<w:SelectorSet><w:Selector Name="ShellId">%s</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>`+
		`<rsp:Shell><rsp:ShellId>%s</rsp:ShellId><rsp:State>Connected</rsp:State></rsp:Shell>`, resourceShell, sh.id, sh.id), nil
}

// execute starts a command. Nothing but the command and its arguments may be in the message.
func (s *Server) execute(sh *shell, e *envelope) (string, error) {
	c := &Command{}
	for _, el := range e.Body.CommandLine.Any {
		switch {
		case len(el.Inner) > 0:
			return "", errSchema
		case el.XMLName.Local == "Command" && c.Line == "":
			c.Line = el.Text
		case el.XMLName.Local == "Arguments":
			c.Args = append(c.Args, el.Text)
		default:
			return "", errSchema
		}
	}
	if len(c.Line)+len(strings.Join(c.Args, " ")) > 8191 {
		c.Line, c.Args = "rem", nil
		return s.start(sh, c, func(context.Context, *Command) int {
			fmt.Fprint(c.Stderr, "The command line is too long.\r\n")
			return 1
		}, false), nil
	}
	console := !strings.EqualFold(e.option("WINRS_CONSOLEMODE_STDIN"), "FALSE")
	return s.start(sh, c, s.opt.Handler, console), nil
}

func (s *Server) start(sh *shell, c *Command, run Handler, console bool) string {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, console: console, in: newPipe(), changed: make(chan struct{})}
	c.Stdin, c.Stdout, c.Stderr = p.in, stream{p, &p.out}, stream{p, &p.err}
	id := rand.Text()
	sh.mu.Lock()
	sh.commands[id] = p
	sh.mu.Unlock()
	context.AfterFunc(ctx, func() { p.in.put(nil, true) })
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		code := run(ctx, c)
		p.mu.Lock()
		p.done, p.code = true, code
		p.tell()
		p.mu.Unlock()
	}()
	return `<rsp:CommandResponse><rsp:CommandId>` + id + `</rsp:CommandId></rsp:CommandResponse>`
}

func (sh *shell) send(e *envelope) error {
	in := e.Body.Send.Stream
	sh.mu.Lock()
	p := sh.commands[in.Command]
	sh.mu.Unlock()
	if p == nil || in.Name != "stdin" {
		return errNoCommand
	}
	b, err := base64.StdEncoding.DecodeString(in.Text)
	if err != nil {
		return errSchema
	}
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done {
		return errPipe
	}
	p.in.put(b, in.End == "true" && !p.console)
	return nil
}

// most is how much output goes into one answer, so that its base64 stays within an envelope.
const most = 60 << 10

func (s *Server) receive(r *http.Request, sh *shell, e *envelope) (string, error) {
	id := e.Body.Receive.Stream.Command
	sh.mu.Lock()
	p := sh.commands[id]
	sh.mu.Unlock()
	if p == nil {
		return "", errNoCommand
	}
	limit, err := timeout(e.Header.Timeout)
	if err != nil {
		return "", err
	}
	timer := time.NewTimer(min(limit, s.opt.MaxWait))
	defer timer.Stop()
	p.mu.Lock()
	changed := p.changed
	p.mu.Unlock()
	select {
	case <-changed:
	case <-timer.C:
		return "", errTimedOut
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	b.WriteString(`<rsp:ReceiveResponse>`)
	for name, buf := range map[string]*bytes.Buffer{"stdout": &p.out, "stderr": &p.err} {
		if buf.Len() > 0 {
			fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>`, name, id, base64.StdEncoding.EncodeToString(buf.Next(most)))
		}
	}
	state, code := "Running", ""
	if p.out.Len()+p.err.Len() == 0 {
		if p.done {
			state, code = "Done", fmt.Sprintf(`<rsp:ExitCode>%d</rsp:ExitCode>`, p.code)
			for _, n := range []string{"stdout", "stderr"} {
				fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s" End="true"/>`, n, id)
			}
		} else {
			p.changed = make(chan struct{})
		}
	}
	fmt.Fprintf(&b, `<rsp:CommandState CommandId="%s" State="%sCommandState/%s">%s</rsp:CommandState></rsp:ReceiveResponse>`, id, actionShell, state, code)
	return b.String(), nil
}
