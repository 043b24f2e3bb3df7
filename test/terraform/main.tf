# What a team keeps in Terraform of its ECS: a cluster, its capacity providers,
# task definitions and their log group. The endpoints are all that differs from AWS.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "endpoint" { type = string }
variable "memory" {
  type    = number
  default = 128
}
variable "tasks" {
  type    = number
  default = 2
}
variable "retention" {
  type    = number
  default = 7
}
provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  default_tags {
    tags = { managed = "terraform" }
  }
  endpoints {
    ecs  = var.endpoint
    iam  = var.endpoint
    logs = var.endpoint
    sts  = var.endpoint
  }
}
data "aws_caller_identity" "me" {}
resource "aws_ecs_cluster" "main" {
  name = "tf"
  setting {
    name  = "containerInsights"
    value = "disabled"
  }
  tags = { team = "blue" }
}
resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE"]
  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }
}
resource "aws_cloudwatch_log_group" "web" {
  name              = "/tf/web"
  retention_in_days = var.retention
  tags              = { team = "blue" }
}
resource "aws_cloudwatch_log_stream" "web" {
  name           = "static"
  log_group_name = aws_cloudwatch_log_group.web.name
}
resource "aws_ecs_task_definition" "web" {
  family                   = "tf-web"
  network_mode             = "bridge"
  requires_compatibilities = ["EC2"]
  volume {
    name      = "scratch"
    host_path = "/var/tmp"
  }
  placement_constraints {
    type       = "memberOf"
    expression = "attribute:ecs.os-type == linux"
  }
  container_definitions = jsonencode([{
    name         = "web"
    image        = "longshore/sample"
    memory       = var.memory
    essential    = true
    environment  = [{ name = "B", value = "2" }, { name = "A", value = "1" }]
    portMappings = [{ containerPort = 80 }]
    mountPoints  = [{ sourceVolume = "scratch", containerPath = "/scratch" }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.web.name
        awslogs-region        = "us-east-1"
        awslogs-stream-prefix = "web"
      }
    }
  }])
}
resource "aws_ecs_task_definition" "fargate" {
  family                   = "tf-fargate"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 256
  memory                   = 512
  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
  container_definitions = jsonencode([{ name = "app", image = "longshore/sample", essential = true }])
}
data "aws_ecs_cluster" "main" { cluster_name = aws_ecs_cluster.main.name }
data "aws_ecs_task_definition" "web" { task_definition = aws_ecs_task_definition.web.family }
data "aws_cloudwatch_log_groups" "tf" {
  log_group_name_prefix = "/tf/"
  depends_on            = [aws_cloudwatch_log_group.web]
}
output "account" { value = data.aws_caller_identity.me.account_id }
output "revision" { value = data.aws_ecs_task_definition.web.revision }
output "cluster" { value = data.aws_ecs_cluster.main.arn }
output "groups" { value = data.aws_cloudwatch_log_groups.tf.arns }
resource "aws_ecs_service" "web" {
  name                               = "web"
  cluster                            = aws_ecs_cluster.main.id
  task_definition                    = aws_ecs_task_definition.web.arn
  desired_count                      = var.tasks
  launch_type                        = "EC2"
  deployment_minimum_healthy_percent = 50
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  wait_for_steady_state              = true
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  ordered_placement_strategy {
    type  = "spread"
    field = "instanceId"
  }
}
