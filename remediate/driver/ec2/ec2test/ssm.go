package ec2test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Node is what Systems Manager knows of an instance.
type Node struct {
	Platform string // Linux, Windows, MacOS
	Ping     string // Online, ConnectionLost
}

// A Command is one that was sent.
type Command struct {
	ID, Instance, Document, Comment string
	Script                          string // of AWS-RunShellScript
	Status                          string
	Stdout, Stderr                  string
	Code                            int

	asked time.Time
	reads int
	over  chan struct{}
}

// A Shell runs a script on an instance.
type Shell func(instance, script string) (stdout, stderr string, code int)

// Manage makes an instance one that Systems Manager knows.
func (s *Server) Manage(instance string, n Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes == nil {
		s.nodes = map[string]Node{}
	}
	s.nodes[instance] = n
}

// Commands returns all commands as they are, oldest first.
func (s *Server) Commands() (all []Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.commands {
		all = append(all, *c)
	}
	return all
}

// Heard returns all that Systems Manager was told, and what it answered.
func (s *Server) Heard() string { s.mu.Lock(); defer s.mu.Unlock(); return s.heard.String() }

// serveSSM answers a request in the JSON 1.1 protocol. Every check is of the API Reference of
// Systems Manager (version 2014-11-06), the action of its name, unless it says otherwise.
func (s *Server) serveSSM(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSSM.")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	out, e := any(nil), s.authenticSSM(r)
	if e == nil && s.Denied[name] { // "Common Error Types"
		e = refuse("AccessDeniedException", "User: arn:aws:iam::123456789012:user/unbrick is not authorized to perform: ssm:%s", name)
	}
	if e == nil {
		out, e = s.actSSM(name, r.Header.Get("Content-Type"), body)
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if e != nil {
		w.WriteHeader(e.status)
		out = map[string]string{"__type": e.code, "message": e.message}
	}
	b, _ := json.Marshal(out)
	s.heard.Write(body)
	s.heard.Write(b)
	_, _ = w.Write(b)
}

func (s *Server) authenticSSM(r *http.Request) *apiError {
	e := s.authentic(r, "ssm")
	if e == nil {
		return nil
	}
	// Names as services with JSON have them ("Common Error Types"), all with 400.
	code := map[string]string{"MissingAuthenticationToken": "MissingAuthenticationTokenException",
		"AuthFailure": "UnrecognizedClientException", "SignatureDoesNotMatch": "InvalidSignatureException"}[e.code]
	return refuse(code, "%s", e.message)
}

func (s *Server) actSSM(name, kind string, body []byte) (any, *apiError) {
	if kind != "application/x-amz-json-1.1" {
		return nil, refuse("UnknownOperationException", "")
	}
	switch name {
	case "DescribeInstanceInformation":
		return call(body, s.describeNodes)
	case "SendCommand":
		return call(body, s.sendCommand)
	case "GetCommandInvocation":
		return call(body, s.invocation)
	case "ListCommands":
		return call(body, s.listCommands)
	}
	return nil, refuse("UnknownOperationException", "")
}

// call reads a request that has known members alone.
func call[In any](body []byte, do func(In) (any, *apiError)) (any, *apiError) {
	var in In
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, refuse("SerializationException", "%v", err)
	}
	return do(in)
}

func invalid(format string, args ...any) *apiError {
	return refuse("ValidationException", "1 validation error detected: "+format, args...)
}

type nodesRequest struct {
	Filters []struct {
		Key    string
		Values []string
	}
	MaxResults *int
	NextToken  string
}

// describeNodes: MaxResults 5 to 50; a filter has 1 to 100 values. Ids that it does not know, in a
// filter, are no error.
func (s *Server) describeNodes(in nodesRequest) (any, *apiError) {
	size := 10
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	if size < 5 || size > 50 {
		return nil, invalid("Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value between 5 and 50", size)
	}
	ids := sorted(s.nodes)
	for _, f := range in.Filters {
		if f.Key != "InstanceIds" {
			return nil, refuse("InvalidFilterKey", "")
		}
		if len(f.Values) < 1 || len(f.Values) > 100 {
			return nil, invalid("Value at 'filters.1.member.values' failed to satisfy constraint: Member must have length between 1 and 100")
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return !slices.Contains(f.Values, id) })
	}
	from, err := 0, error(nil)
	if in.NextToken != "" {
		if from, err = strconv.Atoi(in.NextToken); err != nil || from > len(ids) {
			return nil, refuse("InvalidNextToken", "")
		}
	}
	if s.PageCap > 0 {
		size = min(size, s.PageCap)
	}
	list, next := []any{}, ""
	for i, id := range ids[from:] {
		if i == size {
			next = strconv.Itoa(from + size)
			break
		}
		n := s.nodes[id]
		list = append(list, map[string]any{"InstanceId": id, "PingStatus": n.Ping, "PlatformType": n.Platform, "LastPingDateTime": 1.7e9, "ResourceType": "EC2Instance"})
	}
	return map[string]any{"InstanceInformationList": list, "NextToken": next}, nil
}

type sendRequest struct {
	DocumentName, Comment string
	InstanceIds           []string
	TimeoutSeconds        *int
	Parameters            map[string][]string
}

// sendCommand: up to 50 instances (one here), all known, running and online; a comment of 100
// characters; 30 s to 30 days for the delivery; parameters that the document has. The document
// AWS-RunShellScript runs on Linux alone, and has commands, executionTimeout and workingDirectory.
func (s *Server) sendCommand(in sendRequest) (any, *apiError) {
	switch {
	case in.DocumentName != "AWS-RunShellScript":
		return nil, refuse("InvalidDocument", "Document with name %s does not exist.", in.DocumentName)
	case len(in.InstanceIds) != 1:
		return nil, invalid("Value at 'instanceIds' failed to satisfy constraint: Member must have length 1")
	case len([]rune(in.Comment)) > 100:
		return nil, invalid("Value at 'comment' failed to satisfy constraint: Member must have length less than or equal to 100")
	case in.TimeoutSeconds != nil && (*in.TimeoutSeconds < 30 || *in.TimeoutSeconds > 2592000):
		return nil, invalid("Value '%d' at 'timeoutSeconds' failed to satisfy constraint: Member must have value between 30 and 2592000", *in.TimeoutSeconds)
	case len(in.Parameters["commands"]) == 0:
		return nil, refuse("InvalidParameters", "Parameters [commands] are required")
	}
	for name := range in.Parameters {
		if !slices.Contains([]string{"commands", "executionTimeout", "workingDirectory"}, name) {
			return nil, refuse("InvalidParameters", "%s is not a parameter of the document", name)
		}
	}
	id := in.InstanceIds[0]
	n, known := s.nodes[id]
	instance := s.instances[id]
	switch {
	case !known || instance == nil || instance.State != "running" || n.Ping != "Online":
		return nil, refuse("InvalidInstanceId", "Instances [[%s]] not in a valid state for account 123456789012", id)
	case n.Platform != "Linux":
		return nil, refuse("UnsupportedPlatformType", "The document does not support the platform type of %s", id)
	}
	s.changes++
	c := &Command{ID: fmt.Sprintf("00000000-0000-4000-8000-%012x", len(s.commands)+1), Instance: id, Document: in.DocumentName, Comment: in.Comment,
		Script: strings.Join(in.Parameters["commands"], "\n"), Status: "Pending", Code: -1, asked: time.Now(), over: make(chan struct{})}
	s.commands = append(s.commands, c)
	go s.runCommand(c, s.Shell)
	return map[string]any{"Command": c.json()}, nil
}

// runCommand runs it as the agent on the instance does, whoever asks.
func (s *Server) runCommand(c *Command, shell Shell) {
	defer close(c.over)
	var stdout, stderr string
	var code int
	if shell != nil {
		stdout, stderr, code = shell(c.Instance, c.Script)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard.WriteString(stdout + stderr)
	c.Stdout, c.Stderr, c.Code, c.Status = stdout, stderr, code, "Success"
	if code != 0 {
		c.Status = "Failed"
	}
}

func (c *Command) json() map[string]any {
	return map[string]any{"CommandId": c.ID, "DocumentName": c.Document, "Comment": c.Comment, "InstanceIds": []string{c.Instance}, "Status": c.Status,
		"StatusDetails": c.Status, "RequestedDateTime": float64(c.asked.Unix()), "Parameters": map[string][]string{"commands": {c.Script}}}
}

var commandID = regexp.MustCompile(`^[0-9a-f-]{36}$`)

type invocationRequest struct{ CommandId, InstanceId string }

// invocation shows nothing of a command on the first reads, and no end before the agent on the
// instance says so. What a command wrote is there when it has ended; 24,000 and 8,000 characters.
func (s *Server) invocation(in invocationRequest) (any, *apiError) {
	if !commandID.MatchString(in.CommandId) {
		return nil, refuse("InvalidCommandId", "")
	}
	i := slices.IndexFunc(s.commands, func(c *Command) bool { return c.ID == in.CommandId && c.Instance == in.InstanceId })
	if i < 0 {
		return nil, refuse("InvocationDoesNotExist", "")
	}
	c := s.commands[i]
	if c.reads++; c.reads < s.steps() {
		return nil, refuse("InvocationDoesNotExist", "")
	}
	out := map[string]any{"CommandId": c.ID, "InstanceId": c.Instance, "Comment": c.Comment, "DocumentName": c.Document, "PluginName": "aws:runShellScript",
		"ResponseCode": -1, "Status": "InProgress", "StatusDetails": "InProgress", "StandardOutputContent": "", "StandardErrorContent": ""}
	select {
	case <-c.over:
	default:
		return out, nil
	}
	if c.reads > s.steps() {
		out["Status"], out["StatusDetails"], out["ResponseCode"] = c.Status, c.Status, c.Code
		out["StandardOutputContent"], out["StandardErrorContent"] = head(c.Stdout, 24000), head(c.Stderr, 8000)
	}
	return out, nil
}

func head(text string, most int) string { return text[:min(len(text), most)] }

type listRequest struct {
	CommandId, InstanceId, NextToken string
	MaxResults                       *int
}

// listCommands lists the newest first; MaxResults 1 to 50.
func (s *Server) listCommands(in listRequest) (any, *apiError) {
	size := 50
	if in.MaxResults != nil {
		size = *in.MaxResults
	}
	if size < 1 || size > 50 {
		return nil, invalid("Value '%d' at 'maxResults' failed to satisfy constraint: Member must have value between 1 and 50", size)
	}
	list := []any{}
	for _, c := range slices.Backward(s.commands) {
		if len(list) < size && (in.InstanceId == "" || c.Instance == in.InstanceId) && (in.CommandId == "" || c.ID == in.CommandId) {
			list = append(list, c.json())
		}
	}
	return map[string]any{"Commands": list}, nil
}
