// Command longshore-sample is the program inside the image longshore/sample: a
// web server that says who it is, and a handful of commands that behave in the
// ways that containers do, for trying things out and for tests.
//
//	(nothing)               serve HTTP on port 80, or on $PORT
//	listen PORT             serve HTTP on PORT
//	sleep SECONDS           wait, then exit 0
//	exit CODE               exit with CODE
//	echo TEXT…              print TEXT
//	lines N                 print N numbered lines
//	cat PATH                print a file
//	env                     print the environment, with values
//	id                      print user, groups and capabilities
//	get URL                 fetch URL and print the body
//	write PATH BYTES        write a file of BYTES bytes
//	burn cpu|memory         use all CPU, or memory until killed
//	fork N                  start N sleeping children and wait for them
//	ignore-term             run on when told to stop
//
// As PID 1 it reaps orphans. The server answers SIGTERM by finishing the requests
// in flight and exiting 0; sleep, burn and fork exit 143, as a shell would report.
package main
