// Package elbv2 is Elastic Load Balancing, version 2: Application and Network Load
// Balancers, their listeners and rules, target groups and targets.
//
// The room keeps what is asked for; internal/edge serves by it on the nodes. Table is what
// they serve, SetHealth what they say of the targets. Other than in AWS, a load balancer is
// active at once, and has an address of its own from a network that every machine has for
// itself, so that many can listen on port 80: it is reached from the machines that serve and
// from the tasks on them. There are no zones of a load balancer, no
// Gateway Load Balancers, no UDP and no Lambda functions as targets. Certificates are those of
// IAM.
package elbv2
