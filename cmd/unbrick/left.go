package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"unbrick/remediate/engine"
)

// commandLine says how this process was begun, for whoever has to give the command again.
func commandLine() engine.Command {
	words := []string{"unbrick"}
	for _, arg := range os.Args[1:] {
		flag, value, ok := strings.Cut(arg, "=")
		if ok && shared(value) {
			arg = flag + "=" + redactedState(value)
		} else if shared(arg) {
			arg = redactedState(arg)
		}
		words = append(words, shellWord(arg))
	}
	dir, _ := os.Getwd() // the rest is worth telling without it
	return engine.Command{Line: strings.Join(words, " "), Dir: dir}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellWord quotes a word where a shell would take it for more than one.
func shellWord(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// again says which commands go on with a run.
func again(st engine.Status, commands []engine.Command) string {
	var all []string
	here, _ := os.Hostname()
	for _, c := range commands {
		text := "cd " + shellWord(c.Dir) + " && " + c.Line
		if c.Dir == "" {
			text = c.Line
		}
		if !strings.EqualFold(c.Machine, here) {
			text += " (on " + c.Machine + ")"
		}
		all = append(all, text)
	}
	text := "the run's command, given again"
	if len(all) > 0 {
		text += ", " + strings.Join(all, ", and ") + ","
	}
	if st.Run.Halted != "" {
		text = "after unbrick resume " + text
	}
	return text
}

// leftLine says what nobody is at work on, and what goes on with it.
func leftLine(st engine.Status) string {
	l := st.Left
	if l.NotPutBack == 0 {
		return fmt.Sprintf("%d hosts were left in the middle of their treatment, and no process is at work on them: %s goes on with them", l.Hosts, again(st, l.Commands))
	}
	return fmt.Sprintf("%d hosts are not put back, and no process is at work on them: %s puts them back", l.NotPutBack, again(st, l.Commands))
}
