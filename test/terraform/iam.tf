# What a team keeps in Terraform of its IAM: the roles of its tasks and instances,
# a policy of its own, a user for its pipeline.

variable "actions" {
  type    = list(string)
  default = ["logs:PutLogEvents"]
}
data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"]
    }
  }
}
data "aws_iam_policy_document" "own" {
  statement {
    actions   = var.actions
    resources = ["*"]
  }
}
resource "aws_iam_policy" "own" {
  name   = "tf-own"
  path   = "/tf/"
  policy = data.aws_iam_policy_document.own.json
}
resource "aws_iam_role" "task" {
  name                 = "tf-task"
  description          = "what tasks may do"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  max_session_duration = 7200
  permissions_boundary = "arn:aws:iam::aws:policy/PowerUserAccess"
  tags                 = { team = "blue" }
}
resource "aws_iam_role_policy" "inline" {
  name   = "inline"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.own.json
}
resource "aws_iam_role_policy_attachment" "own" {
  role       = aws_iam_role.task.name
  policy_arn = aws_iam_policy.own.arn
}
resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.task.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}
resource "aws_iam_instance_profile" "node" {
  name = "tf-node"
  role = aws_iam_role.task.name
}
resource "aws_iam_group" "deployers" { name = "tf-deployers" }
resource "aws_iam_group_policy_attachment" "deployers" {
  group      = aws_iam_group.deployers.name
  policy_arn = aws_iam_policy.own.arn
}
resource "aws_iam_user" "pipeline" { name = "tf-pipeline" }
resource "aws_iam_user_group_membership" "pipeline" {
  user   = aws_iam_user.pipeline.name
  groups = [aws_iam_group.deployers.name]
}
resource "aws_iam_access_key" "pipeline" { user = aws_iam_user.pipeline.name }
data "aws_iam_policy" "admin" { name = "AdministratorAccess" }
data "aws_iam_role" "task" { name = aws_iam_role.task.name }
output "admin" { value = data.aws_iam_policy.admin.arn }
output "task_role" { value = data.aws_iam_role.task.arn }
