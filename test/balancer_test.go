package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

var subnetRE = regexp.MustCompile(`subnet-[0-9a-f]{17}`)

// subnets are two subnets of two zones: the refusal of a load balancer without any names
// those that there are.
func (l *longshore) subnets() []string {
	l.t.Helper()
	_, said, _ := l.cli("elbv2", "create-load-balancer", "--name", "none", "--subnets", "subnet-0")
	found := subnetRE.FindAllString(said, -1)
	slices.Sort(found)
	if found = slices.Compact(found); len(found) < 2 {
		l.t.Fatalf("no subnets are named: %s", said)
	}
	return found[:2]
}

func (l *longshore) vpc() string {
	l.t.Helper()
	out, err := l.ecs().DescribeContainerInstances(context.Background(), &ecs.DescribeContainerInstancesInput{ContainerInstances: l.instances()})
	if err != nil || len(out.ContainerInstances) == 0 {
		l.t.Fatal(out, err)
	}
	for _, a := range out.ContainerInstances[0].Attributes {
		if aws.ToString(a.Name) == "ecs.vpc-id" {
			return aws.ToString(a.Value)
		}
	}
	l.t.Fatal("the instance is in no VPC")
	return ""
}

// balancer is a load balancer with one listener on port 80.
type balancer struct{ arn, listener, url string }

func (l *longshore) balancer(name, group string) balancer {
	l.t.Helper()
	var made struct {
		LoadBalancers []struct{ LoadBalancerArn, DNSName string }
	}
	l.aws(&made, append([]string{"elbv2", "create-load-balancer", "--name", name, "--subnets"}, l.subnets()...)...)
	b := balancer{arn: made.LoadBalancers[0].LoadBalancerArn, url: "http://" + made.LoadBalancers[0].DNSName}
	l.aws(nil, "elbv2", "wait", "load-balancer-available", "--load-balancer-arns", b.arn)
	var listeners struct {
		Listeners []struct{ ListenerArn string }
	}
	l.aws(&listeners, "elbv2", "create-listener", "--load-balancer-arn", b.arn, "--protocol", "HTTP", "--port", "80",
		"--default-actions", "Type=forward,TargetGroupArn="+group)
	b.listener = listeners.Listeners[0].ListenerArn
	return b
}

func (l *longshore) targetGroup(name string) string {
	l.t.Helper()
	var made struct {
		TargetGroups []struct{ TargetGroupArn string }
	}
	l.aws(&made, "elbv2", "create-target-group", "--name", name, "--protocol", "HTTP", "--port", "80", "--vpc-id", l.vpc(),
		"--health-check-interval-seconds", "5", "--health-check-timeout-seconds", "2", "--healthy-threshold-count", "2")
	arn := made.TargetGroups[0].TargetGroupArn
	l.aws(nil, "elbv2", "modify-target-group-attributes", "--target-group-arn", arn, "--attributes", "Key=deregistration_delay.timeout_seconds,Value=5")
	return arn
}

// balanced makes a service behind a target group, and awaits that it is stable.
func (l *longshore) balanced(service, definition, group string, count string) {
	l.t.Helper()
	l.aws(nil, "ecs", "create-service", "--service-name", service, "--task-definition", definition, "--desired-count", count,
		"--deployment-configuration", "deploymentCircuitBreaker={enable=true,rollback=true}",
		"--load-balancers", "targetGroupArn="+group+",containerName=app,containerPort=80")
	l.aws(nil, "ecs", "wait", "services-stable", "--services", service)
}

// load sends requests until the returned function is called, which fails the test if one
// of them has failed.
func (l *longshore) load(urls ...string) (end func()) {
	stop := make(chan struct{})
	var workers sync.WaitGroup
	var sent, failed atomic.Int64
	var first atomic.Pointer[string]
	for i := range 16 {
		// Half of them keep their connections, the others open one for each request.
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: i%2 == 1}}
		// Some take longer than a task has between SIGTERM and SIGKILL.
		query := ""
		if i >= 8 {
			query = "?wait=4"
		}
		workers.Go(func() {
			defer client.CloseIdleConnections()
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				sent.Add(1)
				if err := fetch(client, urls[n%len(urls)]+query, i%4 >= 2); err != nil {
					failed.Add(1)
					said := fmt.Sprintf("%s at %s: %v", urls[n%len(urls)], time.Now().Format(time.TimeOnly), err)
					first.CompareAndSwap(nil, &said)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(stop)
		workers.Wait()
		l.t.Logf("%d requests, %d failed", sent.Load(), failed.Load())
		if failed.Load() > 0 || sent.Load() < 100 {
			l.t.Errorf("of %d requests %d failed, the first: %s", sent.Load(), failed.Load(), *first.Load())
		}
	})
}

// fetch gets a page, or posts something, which no proxy sends twice.
func fetch(client *http.Client, url string, post bool) error {
	method, body := http.MethodGet, io.Reader(nil)
	if post {
		method, body = http.MethodPost, strings.NewReader("an order")
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %.80s %w", response.Status, page, err)
	}
	return nil
}

// A team has a website and a product service behind one load balancer, told apart by their
// paths. While requests come, both are rolled out, one badly and back, scaled and drained,
// server and node are killed, and the whole is upgraded: no request fails.
func TestStoryOfALoadBalancer(t *testing.T) {
	l := up(t, "--no-sample", "--stop-tasks")
	web := func(change func(*types.ContainerDefinition)) string {
		in := &ecs.RegisterTaskDefinitionInput{Family: aws.String("web"), ContainerDefinitions: []types.ContainerDefinition{container("web", "app")}}
		c := &in.ContainerDefinitions[0]
		c.LogConfiguration, c.PortMappings = nil, []types.PortMapping{{ContainerPort: aws.Int32(80)}}
		change(c)
		return l.define(in)
	}
	good := web(func(*types.ContainerDefinition) {})
	site, product := l.targetGroup("site"), l.targetGroup("product")
	b := l.balancer("shop", site)
	l.aws(nil, "elbv2", "create-rule", "--listener-arn", b.listener, "--priority", "10",
		"--conditions", "Field=path-pattern,Values=/product*", "--actions", "Type=forward,TargetGroupArn="+product)
	l.aws(nil, "elbv2", "create-rule", "--listener-arn", b.listener, "--priority", "20",
		"--conditions", "Field=path-pattern,Values=/hello", "--actions", `[{"Type":"fixed-response","FixedResponseConfig":{"StatusCode":"200","ContentType":"text/plain","MessageBody":"hello"}}]`)
	l.balanced("site", good, site, "2")
	l.balanced("product", good, product, "2")
	l.aws(nil, "elbv2", "wait", "target-in-service", "--target-group-arn", site)
	if page := l.get(b.url + "/hello"); page != "hello" {
		t.Errorf("the fixed response is %q", page)
	}

	l.overTLS(b, site)

	end := l.load(b.url+"/", b.url+"/product/1")
	defer end()
	better := web(func(c *types.ContainerDefinition) {
		c.Environment = []types.KeyValuePair{{Name: aws.String("VERSION"), Value: aws.String("2")}}
	})
	for _, service := range []string{"site", "product"} {
		l.aws(nil, "ecs", "update-service", "--service", service, "--task-definition", better)
	}
	time.Sleep(time.Second)
	l.kill()
	l.start()
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "site", "product")

	bad := web(func(c *types.ContainerDefinition) { c.Command = []string{"exit", "1"} })
	l.aws(nil, "ecs", "update-service", "--service", "site", "--task-definition", bad)
	l.eventually("the bad version is given up", func() error {
		if events := fmt.Sprint(eventsOf(l.serviceNow("site"))); !strings.Contains(events, "rolling back to deployment") {
			return fmt.Errorf("%s", events)
		}
		return nil
	})
	l.aws(nil, "ecs", "update-service", "--service", "product", "--desired-count", "4")
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "site", "product")
	l.aws(nil, "ecs", "update-service", "--service", "product", "--desired-count", "1")

	// The upgrade: another executable finds tasks and edge, and replaces the edge.
	before := l.edge()
	l.upgrade()
	l.eventually("another edge serves", func() error {
		if now := l.edge(); now == 0 || now == before {
			return fmt.Errorf("it is %d, was %d", now, before)
		}
		return nil
	})
	l.aws(nil, "ecs", "wait", "services-stable", "--services", "site", "product")
	if s := l.serviceNow("site"); aws.ToString(s.TaskDefinition) != better {
		t.Errorf("the site has %s", aws.ToString(s.TaskDefinition))
	}
	end()

	// An edge that is killed is started again, and has its tables before a server tells it.
	if err := syscall.Kill(l.edge(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.eventually("another edge serves", func() error { return fetch(http.DefaultClient, b.url+"/", false) })

	// What is left is taken down; the name goes with the load balancer.
	for _, service := range []string{"site", "product"} {
		l.aws(nil, "ecs", "delete-service", "--service", service, "--force")
	}
	l.aws(nil, "ecs", "wait", "services-inactive", "--services", "site", "product")
	l.aws(nil, "elbv2", "delete-load-balancer", "--load-balancer-arn", b.arn)
	l.aws(nil, "elbv2", "wait", "load-balancers-deleted", "--load-balancer-arns", b.arn)
	l.eventually("the load balancer is gone", func() error {
		if _, err := net.LookupHost(strings.TrimPrefix(b.url, "http://")); err == nil {
			return fmt.Errorf("its name is still there")
		}
		return nil
	})
	for _, group := range []string{site, product} {
		l.aws(nil, "elbv2", "delete-target-group", "--target-group-arn", group)
	}
}

// overTLS gives a load balancer a certificate, and asks it over HTTP/2.
func (l *longshore) overTLS(b balancer, group string) {
	l.t.Helper()
	name := strings.TrimPrefix(b.url, "http://")
	body, key := selfSigned(l.t, name)
	dir := l.t.TempDir()
	for file, text := range map[string][]byte{"cert.pem": body, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	var made struct {
		ServerCertificateMetadata struct{ Arn string }
	}
	l.aws(&made, "iam", "upload-server-certificate", "--server-certificate-name", "shop",
		"--certificate-body", "file://"+filepath.Join(dir, "cert.pem"), "--private-key", "file://"+filepath.Join(dir, "key.pem"))
	l.aws(nil, "elbv2", "create-listener", "--load-balancer-arn", b.arn, "--protocol", "HTTPS", "--port", "443",
		"--certificates", "CertificateArn="+made.ServerCertificateMetadata.Arn, "--default-actions", "Type=forward,TargetGroupArn="+group)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(body)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	l.eventually("it answers over HTTP/2 and TLS", func() error {
		response, err := client.Get("https://" + name + "/")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			return fmt.Errorf("%s %s", response.Proto, response.Status)
		}
		return nil
	})
	if _, said, exit := l.cli("iam", "delete-server-certificate", "--server-certificate-name", "shop"); exit == 0 || !strings.Contains(said, "DeleteConflict") {
		l.t.Errorf("the certificate that is used was deleted: %s", said)
	}
	l.notOnDisk(l.t, strings.Split(string(key), "\n")[1])
}

func selfSigned(t *testing.T, name string) (body, private []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// upgrade stops the process and starts a copy of its executable.
func (l *longshore) upgrade() {
	l.t.Helper()
	raw, err := os.ReadFile(l.binary)
	if err != nil {
		l.t.Fatal(err)
	}
	other := filepath.Join(l.t.TempDir(), "longshore")
	if err := os.WriteFile(other, raw, 0o755); err != nil {
		l.t.Fatal(err)
	}
	l.kill()
	l.binary = other
	l.start()
}

// edge is the process that serves the node's load balancers; 0 if there is none.
func (l *longshore) edge() (pid int) {
	l.t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, path := range entries {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(line, []byte("longshore\x00edge")) {
			continue
		}
		log, err := os.Readlink(filepath.Join(filepath.Dir(path), "fd", "2"))
		if err != nil || !strings.HasPrefix(log, l.data) {
			continue
		}
		var found int
		if _, err := fmt.Sscanf(path, "/proc/%d/", &found); err == nil && found > pid {
			pid = found
		}
	}
	return pid
}
