// Package logs is the CloudWatch Logs room: log groups and streams, tags and
// retention in the store, log events in bulk.
//
// As AWS promises: an acknowledged event is on disk; events up to 14 days old
// and 2 hours ahead are taken in any order of batches; reading is in order of
// timestamp; GetLogEvents' tokens never end, FilterLogEvents' do.
//
// What differs: everything is visible at once (AWS: "eventually"), pagination
// tokens do not expire, and expired events are no longer returned from the moment
// that they expire. Metric filters, subscriptions, Insights, deliveries and
// encryption with customer keys are absent (operations.txt).
//
// Streams are stored under their group's generation id, so that deleting a group
// is one small transaction: it records the intent, and the sweep (sweep.go)
// removes what belonged to it, again after a crash. Nothing of a deleted group
// can be seen in a new one of the same name.
//
// Read service.go first, then records.go and putevents.go. Package pattern
// parses and evaluates filter patterns.
package logs
