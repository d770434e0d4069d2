package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The exit codes, which scripts rely on.
const (
	exitDone        = 0 // every host is fixed or healthy
	exitNotAll      = 1 // the run ended and some hosts are not
	exitUsage       = 2 // usage, configuration or input
	exitHalted      = 3 // halted by the stop rule
	exitInterrupted = 4 // interrupted: run again to resume
)

// A failure is an error with its exit code and, on a line of its own, what to do about it.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is a mistake in what the user wrote: a flag, an argument, a file.
func usage(hint, format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...), hint}
}

// hinted gives err a hint, as a mistake in what the user wrote. Nil stays nil.
func hinted(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &failure{exitUsage, err, hint}
}

// halted says that the stop rule stopped the run.
func halted(format string, args ...any) error {
	return &failure{exitHalted, fmt.Errorf(format, args...), "look at unbrick report; to go on: unbrick resume, then this command again"}
}

// exitWith ends the program with code and says nothing more: the result has been printed.
func exitWith(code int) error {
	if code == exitDone {
		return nil
	}
	return &failure{code: code}
}

// explain prints err and returns its exit code. An error of no kind of its own is taken as
// one of input: nothing had been touched when it came up.
func explain(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{code: exitUsage, err: err}
		if errors.Is(err, context.Canceled) {
			f = &failure{code: exitInterrupted, err: errors.New("interrupted"), hint: "run the same command again to resume"}
		}
	}
	if f.err != nil {
		fmt.Fprintf(w, "unbrick: %v\n", err)
		if f.hint != "" {
			fmt.Fprintf(w, "  hint: %s\n", f.hint)
		}
	}
	return f.code
}
