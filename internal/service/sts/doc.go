// Package sts is AWS Security Token Service's API. Only GetCallerIdentity is
// served yet: who am I, for any principal, without a permission, as AWS has it.
// Temporary credentials come with roles.
//
// Read service.go.
package sts
