package test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// hostileParameters are well-formed documents that mean harm.
func (l *longshore) hostileParameters() {
	const (
		invalid, client, denied = "InvalidParameterException", "ClientException", "AccessDeniedException"
		theirs                  = "arn:aws:ecs:us-east-1:111111111111:"
		id                      = "00000000000000000000000000000000"
		one                     = `{"family":"hostile","containerDefinitions":[{"name":"a","image":"longshore/sample","memory":16}]}`
	)
	op := func(name, body string) rawCall { return rawCall{target: ecsTarget + name, body: []byte(body)} }
	logs := func(name, body string) rawCall {
		return rawCall{target: logsTarget + name, service: "logs", body: []byte(body)}
	}
	if a := l.raw(op("RegisterTaskDefinition", one)); a.status != http.StatusOK {
		l.t.Fatal(a.body)
	}
	tags := strings.TrimSuffix(strings.Repeat(`{"key":"k","value":"v"},`, 10000), ",")
	l.refuse([]refused{
		{"NUL in a name", op("CreateCluster", `{"clusterName":"a\u0000b"}`), 400, invalid},
		{"newline after a name", op("CreateCluster", `{"clusterName":"abc\n"}`), 400, invalid},
		{"path as a name", op("CreateCluster", `{"clusterName":"../../etc"}`), 400, invalid},
		{"long name", op("CreateCluster", `{"clusterName":"`+strings.Repeat("é", 5000)+`"}`), 400, invalid},
		{"control character in a tag", op("CreateCluster", `{"clusterName":"c","tags":[{"key":"a\u0001","value":""}]}`), 400, invalid},
		{"reserved tag", op("CreateCluster", `{"clusterName":"c","tags":[{"key":"aws:x","value":""}]}`), 400, invalid},
		{"ten thousand tags", op("CreateCluster", `{"clusterName":"c","tags":[`+tags+`]}`), 400, invalid},
		{"path as a family", op("RegisterTaskDefinition", strings.Replace(one, "hostile", "../x", 1)), 400, client},
		{"no family", op("RegisterTaskDefinition", `{"containerDefinitions":[]}`), 400, client},
		{"forged page token", op("ListClusters", `{"nextToken":"../../x"}`), 400, invalid},
		{"page of nothing", op("ListClusters", `{"maxResults":0}`), 400, invalid},
		{"another account's cluster", op("ListTasks", `{"cluster":"`+theirs+`cluster/default"}`), 400, "ClusterNotFoundException"},
		{"another account's cluster, deleted", op("DeleteCluster", `{"cluster":"`+theirs+`cluster/default"}`), 400, "ClusterNotFoundException"},
		{"another account's task", op("DescribeTasks", `{"tasks":["`+theirs+`task/default/`+id+`"]}`), 400, invalid},
		{"another account's task, stopped", op("StopTask", `{"task":"`+theirs+`task/default/`+id+`"}`), 400, invalid},
		{"another account's definition", op("RunTask", `{"taskDefinition":"`+theirs+`task-definition/hostile:1"}`), 400, client},
		{"another account's definition, deregistered", op("DeregisterTaskDefinition", `{"taskDefinition":"`+theirs+`task-definition/hostile:1"}`), 400, client},
		{"another account's instance", op("DescribeContainerInstances", `{"containerInstances":["`+theirs+`container-instance/default/`+id+`"]}`), 400, invalid},
		{"another account's tags", op("TagResource", `{"resourceArn":"`+theirs+`cluster/default","tags":[{"key":"a","value":"b"}]}`), 400, denied},
		{"another account's group", logs("GetLogEvents", `{"logGroupIdentifier":"arn:aws:logs:us-east-1:111111111111:log-group:x","logStreamName":"x"}`), 400, denied},
		{"arn of colons", op("DescribeTasks", `{"tasks":["arn:::::::::"]}`), 400, invalid},
		{"a negative count", op("RunTask", `{"taskDefinition":"hostile","count":-1}`), 400, invalid},
		{"eleven tasks", op("RunTask", `{"taskDefinition":"hostile","count":11}`), 400, invalid},
		{"an expression of parentheses", op("RunTask", `{"taskDefinition":"hostile","placementConstraints":[{"type":"memberOf","expression":"`+strings.Repeat("(", 100000)+`"}]}`), 400, invalid},
		{"an unknown enum value", op("ListTasks", `{"desiredStatus":"bogus"}`), 400, invalid},
		{"control character in a group's name", logs("CreateLogGroup", `{"logGroupName":"a\u0001"}`), 400, invalid},
		{"an empty group's name", logs("CreateLogGroup", `{"logGroupName":""}`), 400, invalid},
		{"events for a stream that is not", logs("PutLogEvents", `{"logGroupName":"no","logStreamName":"no","logEvents":[{"timestamp":1,"message":"x"}]}`), 400, "ResourceNotFoundException"},
	})
}

// presigned uses the query form of signatures.
func (l *longshore) presigned() {
	ask := func(at time.Time, change func(*http.Request)) rawAnswer {
		r, err := http.NewRequest(http.MethodGet, l.endpoint+"/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Expires=60", nil)
		if err != nil {
			l.t.Fatal(err)
		}
		sum := sha256.Sum256(nil)
		signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret},
			r, hex.EncodeToString(sum[:]), "sts", region, at.UTC())
		if err != nil {
			l.t.Fatal(err)
		}
		r, err = http.NewRequest(http.MethodGet, signed, nil)
		if err != nil {
			l.t.Fatal(err)
		}
		change(r)
		return l.send(r)
	}
	nothing := func(*http.Request) {}
	if a := ask(time.Now(), nothing); a.status != http.StatusOK || !strings.Contains(a.body, "<Account>000000000000</Account>") {
		l.t.Errorf("presigned: %d %s", a.status, a.body)
	}
	if a := ask(time.Now().Add(-2*time.Minute), nothing); a.status != http.StatusBadRequest || a.code != "RequestExpired" {
		l.t.Errorf("a minute after its end: %d %s", a.status, a.body)
	}
	stretch := func(r *http.Request) {
		r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "Expires=60", "Expires=600", 1)
	}
	if a := ask(time.Now().Add(-2*time.Minute), stretch); a.status != http.StatusForbidden || a.code != "SignatureDoesNotMatch" {
		l.t.Errorf("with its time stretched: %d %s", a.status, a.body)
	}
}

// hostileConnections speak HTTP badly.
func (l *longshore) hostileConnections() {
	signed := l.signedHead(`{}`)
	for name, sent := range map[string]string{
		"body cut short":       signed + "Content-Length: 2\r\n\r\n{",
		"two lengths":          signed + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		"length and chunks":    signed + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"negative length":      signed + "Content-Length: -2\r\n\r\n{}",
		"not HTTP":             "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
		"header of a megabyte": "POST / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		status, body := l.talk(sent)
		if status < 400 || status >= 500 {
			l.t.Errorf("%s: answered %d %q", name, status, body)
		}
	}
	if status, body := l.talk(signed + "Content-Length: 2\r\n\r\n{}"); status != http.StatusOK {
		l.t.Errorf("the same, whole: %d %s", status, body)
	}
	// Many that open and say nothing leave room for those who speak.
	for range 200 {
		conn, err := net.Dial("tcp", l.listen)
		if err != nil {
			l.t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost:")
	}
	if status, _ := l.talk(signed + "Content-Length: 2\r\n\r\n{}"); status != http.StatusOK {
		l.t.Errorf("beside 200 silent connections: %d", status)
	}
}

// signedHead is the head of a signed ListClusters, without the length.
func (l *longshore) signedHead(body string) string {
	r, err := http.NewRequest(http.MethodPost, l.endpoint+"/", nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", ecsTarget+"ListClusters")
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret},
		r, hex.EncodeToString(sum[:]), "ecs", region, time.Now().UTC()); err != nil {
		l.t.Fatal(err)
	}
	head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: %s\r\n", l.listen)
	for name := range r.Header {
		head += name + ": " + r.Header.Get(name) + "\r\n"
	}
	return head
}

// talk sends bytes, closes its side and returns the answer.
func (l *longshore) talk(sent string) (int, string) {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.listen)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, sent)
	_ = conn.(*net.TCPConn).CloseWrite()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}
