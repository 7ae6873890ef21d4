package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// logs is a client of the Go SDK. Of an endpoint of its own it is told not to put
// stream- in front of the host.
func (s *server) logs() *cloudwatchlogs.Client {
	return cloudwatchlogs.NewFromConfig(s.config(1), func(o *cloudwatchlogs.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("no host prefix",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					return next.HandleInitialize(smithyhttp.DisableEndpointHostPrefix(ctx, true), in)
				}), middleware.Before)
		})
	})
}

// putLog writes messages, in a stream that it makes if need be.
func (s *server) putLog(group, stream string, messages ...string) {
	s.t.Helper()
	c, ctx := s.logs(), s.t.Context()
	if _, err := c.CreateLogStream(ctx, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &stream}); err != nil && !strings.Contains(err.Error(), "ResourceAlreadyExistsException") {
		s.t.Fatal(err)
	}
	var events []types.InputLogEvent
	for _, m := range messages {
		events = append(events, types.InputLogEvent{Timestamp: new(time.Now().UnixMilli()), Message: &m})
	}
	if _, err := c.PutLogEvents(ctx, &cloudwatchlogs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events}); err != nil {
		s.t.Fatal(err)
	}
}

func TestLogsCLI(t *testing.T) {
	s := start(t)
	s.aws("logs", "create-log-group", "--log-group-name", "/app/web", "--tags", "team=sea")
	s.aws("logs", "create-log-stream", "--log-group-name", "/app/web", "--log-stream-name", "a")
	at := time.Now().UnixMilli()
	s.aws("logs", "put-log-events", "--log-group-name", "/app/web", "--log-stream-name", "a", "--log-events",
		fmt.Sprintf("timestamp=%d,message=GET /index 200", at), fmt.Sprintf("timestamp=%d,message=GET /no 404", at+1))
	if got := s.aws("logs", "get-log-events", "--log-group-name", "/app/web", "--log-stream-name", "a", "--query", "events[].message", "--output", "text"); got != "GET /index 200\tGET /no 404\n" {
		t.Errorf("get-log-events: %q", got)
	}
	if got := s.aws("logs", "filter-log-events", "--log-group-name", "/app/web", "--filter-pattern", "[method, path, status=4*]", "--query", "events[].message", "--output", "text"); got != "GET /no 404\n" {
		t.Errorf("filter-log-events: %q", got)
	}
	s.aws("logs", "put-retention-policy", "--log-group-name", "/app/web", "--retention-in-days", "14")
	var groups struct {
		LogGroups []struct {
			LogGroupName    string
			RetentionInDays int
			StoredBytes     int
		}
	}
	if err := json.Unmarshal([]byte(s.aws("logs", "describe-log-groups", "--log-group-name-prefix", "/app", "--output", "json")), &groups); err != nil {
		t.Fatal(err)
	}
	if g := groups.LogGroups; len(g) != 1 || g[0].RetentionInDays != 14 || g[0].StoredBytes != len("GET /index 200GET /no 404")+2*26 {
		t.Errorf("describe-log-groups: %+v", g)
	}
	_, e, err := s.tryAWS("logs", "create-log-group", "--log-group-name", "/app/web")
	if err == nil || !strings.Contains(e, "(ResourceAlreadyExistsException)") || !strings.Contains(e, "The specified log group already exists") {
		t.Errorf("a second group of the name: %v %s", err, e)
	}
	_, e, err = s.tryAWS("logs", "start-query", "--log-group-name", "/app/web", "--start-time", "1", "--end-time", "2", "--query-string", "fields @message")
	if err == nil || !strings.Contains(e, "StartQuery") {
		t.Errorf("an operation that is not built: %v %s", err, e)
	}
}

func TestLogsSurviveAKill(t *testing.T) {
	s := start(t)
	s.aws("logs", "create-log-group", "--log-group-name", "g")
	s.putLog("g", "s", "before the kill")
	s.kill()
	s.restart()
	if got := s.aws("logs", "filter-log-events", "--log-group-name", "g", "--query", "events[].message", "--output", "text"); got != "before the kill\n" {
		t.Errorf("after the restart: %q", got)
	}
}

// cli2 finds a version 2 of the AWS CLI, which alone has logs tail.
func cli2(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"aws", "/usr/bin/aws", "/usr/local/bin/aws"} {
		if out, err := exec.CommandContext(t.Context(), name, "--version").Output(); err == nil && strings.HasPrefix(string(out), "aws-cli/2") {
			return name
		}
	}
	t.Skip("needs version 2 of the AWS CLI: version 1 has no logs tail")
	return ""
}

// lines collects what a client prints while it runs.
type lines struct {
	mu struct {
		sync.Mutex
		all []string
	}
}

// has returns an error as long as one of the parts has not been printed.
func (l *lines) has(parts ...string) error {
	text := l.String()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return fmt.Errorf("no %q in\n%s", p, text)
		}
	}
	return nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.mu.all, "\n")
}

func TestLogsTailFollow(t *testing.T) {
	name := cli2(t)
	s := start(t)
	s.aws("logs", "create-log-group", "--log-group-name", "g")
	s.putLog("g", "one", "early WARN")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, name, "--endpoint-url", s.Endpoint, "logs", "tail", "g", "--follow", "--format", "short", "--filter-pattern", "WARN")
	cmd.Env = append(s.env(), "PYTHONUNBUFFERED=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := &lines{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			got.mu.Lock()
			got.mu.all = append(got.mu.all, sc.Text())
			got.mu.Unlock()
		}
	}()
	defer func() {
		cancel()
		<-done
		_ = cmd.Wait() // it was killed
	}()
	eventually(t, patience, func() error { return got.has("early WARN") })
	s.putLog("g", "two", "late WARN", "late INFO")
	s.putLog("g", "one", "latest WARN")
	eventually(t, patience, func() error { return got.has("late WARN", "latest WARN") })
	if text := got.String(); strings.Contains(text, "INFO") || strings.Count(text, "early") != 1 {
		t.Errorf("the tail shows\n%s", text)
	}
}

func TestLogsLiveTail(t *testing.T) {
	s := start(t)
	s.aws("logs", "create-log-group", "--log-group-name", "g")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := s.logs().StartLiveTail(ctx, &cloudwatchlogs.StartLiveTailInput{
		LogGroupIdentifiers:   []string{"arn:aws:logs:us-east-1:000000000000:log-group:g"},
		LogEventFilterPattern: new("{ $.level = ERROR }"),
	})
	if err != nil {
		t.Fatal(err)
	}
	stream := out.GetStream()
	defer func() {
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}()
	for e := range stream.Events() {
		switch e := e.(type) {
		case *types.StartLiveTailResponseStreamMemberSessionStart:
			s.putLog("g", "s", `{"level":"INFO"}`, `{"level":"ERROR","n":1}`)
		case *types.StartLiveTailResponseStreamMemberSessionUpdate:
			if len(e.Value.SessionResults) == 0 {
				continue
			}
			if len(e.Value.SessionResults) != 1 || *e.Value.SessionResults[0].Message != `{"level":"ERROR","n":1}` {
				t.Errorf("update %+v", e.Value.SessionResults)
			}
			return
		}
	}
	t.Fatalf("the stream ended: %v", stream.Err())
}

// Every batch that was acknowledged is there after a kill, once and whole; of one
// that was not, all or nothing.
func TestLogEventsOutliveKills(t *testing.T) {
	s := start(t)
	s.aws("logs", "create-log-group", "--log-group-name", "g")
	const writers, size = 8, 3
	for w := range writers {
		if _, err := s.logs().CreateLogStream(t.Context(), &cloudwatchlogs.CreateLogStreamInput{LogGroupName: new("g"), LogStreamName: new(fmt.Sprint(w))}); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for round := range 5 {
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for turn := 0; ; turn++ {
					batch := fmt.Sprintf("%d/%d/%d", round, w, turn)
					var events []types.InputLogEvent
					for i := range size {
						events = append(events, types.InputLogEvent{Timestamp: new(time.Now().UnixMilli()), Message: new(fmt.Sprintf("%s#%d", batch, i))})
					}
					_, err := s.logs().PutLogEvents(t.Context(), &cloudwatchlogs.PutLogEventsInput{LogGroupName: new("g"), LogStreamName: new(fmt.Sprint(w)), LogEvents: events})
					if err != nil {
						return // the server is gone
					}
					mu.Lock()
					acknowledged[batch] = true
					mu.Unlock()
				}
			})
		}
		eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if n := len(acknowledged); n < 60*(round+1)+rand.IntN(20) {
				return fmt.Errorf("%d batches", n)
			}
			return nil
		})
		s.kill()
		wg.Wait()
		s.restart()
	}
	found := map[string]int{}
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: new("g")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			batch, _, _ := strings.Cut(*e.Message, "#")
			found[batch]++
		}
	}
	for batch := range acknowledged {
		if found[batch] != size {
			t.Errorf("of batch %s, which was acknowledged, %d events are there", batch, found[batch])
		}
	}
	for batch, n := range found {
		if n != size {
			t.Errorf("of batch %s there are %d events of %d", batch, n, size)
		}
	}
	t.Logf("%d batches were acknowledged, %d are there", len(acknowledged), len(found))
}

const subscriber = `import base64, gzip, json
def handler(event, context):
    data = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    for e in data["logEvents"]:
        print("got", data["logGroup"], data["subscriptionFilters"], e["message"])
`

func TestLogsSubscription(t *testing.T) {
	needRoot(t)
	s := start(t)
	archive := filepath.Join(t.TempDir(), "code.zip")
	if err := os.WriteFile(archive, zipped(t, "handler.py", subscriber), 0o600); err != nil {
		t.Fatal(err)
	}
	role := strings.TrimSpace(s.aws("iam", "create-role", "--role-name", "r", "--assume-role-policy-document", trustLambda, "--query", "Role.Arn", "--output", "text"))
	s.aws("iam", "attach-role-policy", "--role-name", "r", "--policy-arn", basicExecution)
	function := strings.TrimSpace(s.aws("lambda", "create-function", "--function-name", "sink", "--runtime", pythonRuntime(t), "--handler", "handler.handler",
		"--role", role, "--zip-file", "fileb://"+archive, "--query", "FunctionArn", "--output", "text"))
	s.aws("lambda", "wait", "function-active", "--function-name", "sink")
	s.aws("logs", "create-log-group", "--log-group-name", "app")
	subscribe := []string{"logs", "put-subscription-filter", "--log-group-name", "app", "--filter-name", "errors", "--filter-pattern", "ERROR", "--destination-arn", function}
	if _, e, err := s.tryAWS(subscribe...); err == nil || !strings.Contains(e, "Could not execute the lambda function.") {
		t.Errorf("without the function's permission: %v %s", err, e)
	}
	s.aws("lambda", "add-permission", "--function-name", "sink", "--statement-id", "logs", "--action", "lambda:InvokeFunction",
		"--principal", "logs.amazonaws.com", "--source-arn", "arn:aws:logs:us-east-1:000000000000:log-group:app:*")
	s.aws(subscribe...)
	s.putLog("app", "a", "fine", "ERROR one")
	if log := s.waitForLog("/aws/lambda/sink", "got app ['errors'] ERROR one"); strings.Contains(log, "fine") {
		t.Errorf("the function got\n%s", log)
	}
}
