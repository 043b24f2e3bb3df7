// Command roleprobe is what the tests run in a container: a program that uses AWS's
// SDK and configures nothing. It says who it is, and what it may do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

func main() {
	// With an argument it goes on asking who it is, until it is stopped.
	for {
		probe()
		if len(os.Args) == 1 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func probe() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1))
	if err != nil {
		fmt.Println("configuration:", err)
		return
	}
	id, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, nil)
	if err != nil {
		fmt.Println("identity:", brief(err))
		return
	}
	fmt.Println("identity:", aws.ToString(id.Arn))
	client := ecs.NewFromConfig(c)
	_, err = client.ListClusters(ctx, nil)
	fmt.Println("ListClusters:", brief(err))
	_, err = client.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: aws.String("never")})
	fmt.Println("CreateCluster:", brief(err))
}

func brief(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return "allowed"
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return err.Error()
}
