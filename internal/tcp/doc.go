// Package tcp makes listeners and dialers whose connections notice within a known
// time that the other side is gone without a word: a cut cable, a dead machine. The
// kernel probes idle connections and gives up on data that nobody acknowledges,
// whatever protocol runs over them.
//
// Read tcp.go.
package tcp
