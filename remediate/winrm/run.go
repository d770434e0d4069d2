package winrm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	lib "github.com/masterzen/winrm"
)

// A Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

const (
	maxCommand = 8000      // cmd.exe takes 8,191 characters, with what WinRM adds
	inputChunk = 64 * 1024 // raw bytes of standard input in one message: base64 makes more of them
)

// Run runs a command line by cmd.exe with stdin as its standard input, and waits for its end.
// The Result counts only if err is nil. The line is visible on the host to whoever looks at
// its processes and logs: a secret belongs into stdin.
func (s *Session) Run(ctx context.Context, command string, stdin []byte) (Result, error) {
	if len(command) > maxCommand {
		return Result{}, fmt.Errorf("cannot run a command line of %d characters: cmd.exe takes 8,191, with what WinRM adds", len(command))
	}
	if strings.ContainsFunc(command, func(r rune) bool { return r < ' ' && r != '\t' }) {
		return Result{}, errors.New("cannot run a command line with control characters")
	}
	res, err := s.run(ctx, command, stdin)
	if err != nil {
		return Result{}, explain(ctx, s.addr, err)
	}
	return res, nil
}

func (s *Session) run(ctx context.Context, command string, stdin []byte) (Result, error) {
	// The library puts the line into one CDATA section, which the line must not end.
	req := lib.NewExecuteCommandRequest(s.addr.url(), s.shell, strings.ReplaceAll(command, "]]>", "]]]]><![CDATA[>"), nil, s.params)
	text := req.String()
	if stdin != nil {
		// The input is a pipe then. The console that the library asks for never comes to an end.
		text = strings.Replace(text, `"WINRS_CONSOLEMODE_STDIN">TRUE<`, `"WINRS_CONSOLEMODE_STDIN">FALSE<`, 1)
	}
	answer, err := s.wire.post(ctx, []byte(text))
	if err != nil {
		return Result{}, err
	}
	id, err := lib.ParseExecuteCommandResponse(answer)
	if err := answered(id, err); err != nil {
		return Result{}, err
	}
	if stdin != nil {
		if err := s.send(ctx, id, stdin); err != nil {
			return Result{}, err
		}
	}
	res, err := s.receive(ctx, id)
	if err != nil {
		return Result{}, err
	}
	return res, s.finish(ctx, id)
}

// send passes the input on, all of it before the first output is asked for: one connection
// cannot do both at a time.
func (s *Session) send(ctx context.Context, id string, stdin []byte) error {
	for first := true; first || len(stdin) > 0; first = false {
		n := min(len(stdin), inputChunk)
		last := n == len(stdin)
		req := lib.NewSendInputRequest(s.addr.url(), s.shell, id, stdin[:n], last, s.params)
		_, err := s.wire.post(ctx, []byte(req.String()))
		var f *FaultError
		if errors.As(err, &f) && !f.ShellGone() {
			return nil // the command ended without reading on: its output says why
		}
		if err != nil {
			return err
		}
		stdin = stdin[n:]
	}
	return nil
}

// receive collects the output until the command ends. A host that has nothing to say yet says
// that every so often; one that says nothing at all is dead.
func (s *Session) receive(ctx context.Context, id string) (Result, error) {
	var out, errs bytes.Buffer
	for {
		req := lib.NewGetOutputRequest(s.addr.url(), s.shell, id, "stdout stderr", s.params)
		answer, err := s.wire.post(ctx, []byte(req.String()))
		var f *FaultError
		if errors.As(err, &f) && f.Code == codeTimedOut {
			continue
		}
		if err != nil {
			return Result{}, err
		}
		if !strings.Contains(answer, "ReceiveResponse") {
			return Result{}, answered("", nil)
		}
		done, code, err := lib.ParseSlurpOutputErrResponse(answer, &out, &errs)
		if err != nil {
			return Result{}, answered("", err)
		}
		if out.Len()+errs.Len() > s.opt.MaxOutput {
			return Result{}, fmt.Errorf("the command prints more than %d bytes", s.opt.MaxOutput)
		}
		if done {
			return Result{out.Bytes(), errs.Bytes(), code}, nil
		}
	}
}

// finish frees what the host keeps of a command. That it is gone already is as well.
func (s *Session) finish(ctx context.Context, id string) error {
	req := lib.NewSignalRequest(s.addr.url(), s.shell, id, s.params)
	_, err := s.wire.post(ctx, []byte(req.String()))
	var f *FaultError
	if errors.As(err, &f) {
		return nil
	}
	return err
}
