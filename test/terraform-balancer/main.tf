# A service behind a load balancer, as a team keeps it in Terraform.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
variable "endpoint" { type = string }
variable "vpc" { type = string }
variable "subnets" { type = list(string) }
variable "idle" {
  type    = number
  default = 60
}
variable "drain" {
  type    = number
  default = 5
}
provider "aws" {
  region                  = "us-east-1"
  skip_metadata_api_check = true
  default_tags {
    tags = { managed = "terraform" }
  }
  endpoints {
    ec2   = var.endpoint
    ecs   = var.endpoint
    elbv2 = var.endpoint
    sts   = var.endpoint
  }
}
resource "aws_lb" "web" {
  name               = "tf-web"
  load_balancer_type = "application"
  subnets            = var.subnets
  idle_timeout       = var.idle
  tags               = { team = "blue" }
}
resource "aws_lb_target_group" "web" {
  name                 = "tf-web"
  port                 = 80
  protocol             = "HTTP"
  vpc_id               = var.vpc
  deregistration_delay = var.drain
  health_check {
    interval          = 5
    timeout           = 2
    healthy_threshold = 2
    path              = "/up"
  }
}
resource "aws_lb_listener" "web" {
  load_balancer_arn = aws_lb.web.arn
  port              = 80
  protocol          = "HTTP"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.web.arn
  }
}
resource "aws_lb_listener_rule" "closed" {
  listener_arn = aws_lb_listener.web.arn
  priority     = 10
  condition {
    path_pattern { values = ["/closed/*"] }
  }
  condition {
    http_header {
      http_header_name = "X-Team"
      values           = ["blue", "green*"]
    }
  }
  action {
    type = "fixed-response"
    fixed_response {
      content_type = "text/plain"
      message_body = "closed"
      status_code  = "503"
    }
  }
}
resource "aws_lb_listener_rule" "moved" {
  listener_arn = aws_lb_listener.web.arn
  priority     = 20
  condition {
    host_header { values = ["old.example"] }
  }
  action {
    type = "redirect"
    redirect {
      host        = "new.example"
      status_code = "HTTP_301"
    }
  }
}
resource "aws_ecs_cluster" "main" {
  name = "tf"
}
resource "aws_ecs_task_definition" "web" {
  family = "tf-web"
  container_definitions = jsonencode([{
    name         = "app"
    image        = "longshore/sample"
    memory       = 32
    portMappings = [{ containerPort = 80 }]
  }])
}
resource "aws_ecs_service" "web" {
  name                              = "web"
  cluster                           = aws_ecs_cluster.main.id
  task_definition                   = aws_ecs_task_definition.web.arn
  desired_count                     = 2
  launch_type                       = "EC2"
  health_check_grace_period_seconds = 10
  wait_for_steady_state             = true
  load_balancer {
    target_group_arn = aws_lb_target_group.web.arn
    container_name   = "app"
    container_port   = 80
  }
  depends_on = [aws_lb_listener.web]
}
output "url" { value = "http://${aws_lb.web.dns_name}" }
