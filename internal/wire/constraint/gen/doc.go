// Command gen writes the constraint tables of package constraint from AWS's
// published API models:
//
//	go run ./gen -models DIR SERVICE...
//
// DIR holds a folder per service with its service-2.json. The tables go to
// tables/SERVICE.txt below the current folder.
package main
