package bulktest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"longshore.dev/longshore/internal/bulk"
)

// History runs the suite. open returns an empty implementation, closed by t.Cleanup.
func History(t *testing.T, open func(t testing.TB) bulk.History) {
	for name, test := range map[string]func(*testing.T, bulk.History){
		"RecordsComeBack":               historyRoundTrip,
		"TheLastPutCounts":              historyReplace,
		"TrimRemovesWhatIsOlder":        historyTrim,
		"AccountsAndKindsAreApart":      historyApart,
		"UnstorableRecordsAreRefused":   historyInvalid,
		"TrimWorksThroughManyRecords":   historyTrimMany,
		"ReplacedRecordSurvivesItsPast": historyReplaceTrim,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var noon = time.Date(2026, 8, 1, 12, 0, 0, 123456789, time.UTC)

func record(id string, at time.Time) bulk.HistoryRecord {
	return bulk.HistoryRecord{Account: "111122223333", Region: "eu-west-1", Kind: "task", ID: id, At: at, Data: []byte("data of " + id)}
}

func mustPut(t testing.TB, h bulk.History, records ...bulk.HistoryRecord) {
	t.Helper()
	if err := h.Put(t.Context(), records); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func exists(t testing.TB, h bulk.History, r bulk.HistoryRecord) bool {
	t.Helper()
	got, err := h.Get(t.Context(), r.Account, r.Region, r.Kind, r.ID)
	if errors.Is(err, bulk.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatalf("Get %s: %v", r.ID, err)
	}
	if string(got.Data) != string(r.Data) || !got.At.Equal(r.At) {
		t.Errorf("Get %s: %s at %v, want %s at %v", r.ID, got.Data, got.At, r.Data, r.At)
	}
	return true
}

func trim(t testing.TB, h bulk.History, before time.Time) {
	t.Helper()
	r := record("", noon)
	if err := h.Trim(t.Context(), r.Account, r.Region, r.Kind, before); err != nil {
		t.Fatalf("Trim: %v", err)
	}
}

func historyRoundTrip(t *testing.T, h bulk.History) {
	a, b := record("a", noon), record("b/with:odd*chars", noon.Add(-time.Hour))
	mustPut(t, h, a, b)
	if !exists(t, h, a) || !exists(t, h, b) {
		t.Error("a record is missing")
	}
	if exists(t, h, record("c", noon)) {
		t.Error("a record came from nowhere")
	}
}

func historyReplace(t *testing.T, h bulk.History) {
	mustPut(t, h, record("a", noon))
	again := record("a", noon.Add(time.Minute))
	again.Data = []byte("newer")
	mustPut(t, h, again)
	if !exists(t, h, again) {
		t.Error("the record is gone")
	}
}

func historyTrim(t *testing.T, h bulk.History) {
	old, edge, young := record("old", noon.Add(-1)), record("edge", noon), record("young", noon.Add(time.Hour))
	mustPut(t, h, old, edge, young)
	trim(t, h, noon)
	if exists(t, h, old) || !exists(t, h, edge) || !exists(t, h, young) {
		t.Error("Trim must remove exactly what is before the given time")
	}
}

func historyReplaceTrim(t *testing.T, h bulk.History) {
	mustPut(t, h, record("a", noon.Add(-time.Hour)))
	later := record("a", noon.Add(time.Hour))
	mustPut(t, h, later)
	trim(t, h, noon)
	if !exists(t, h, later) {
		t.Error("the replaced record was trimmed by its earlier time")
	}
	trim(t, h, noon.Add(2*time.Hour))
	if exists(t, h, later) {
		t.Error("the record was not trimmed by its later time")
	}
}

func historyApart(t *testing.T, h bulk.History) {
	r := record("a", noon)
	mustPut(t, h, r)
	for _, other := range []bulk.HistoryRecord{
		{Account: "999999999999", Region: r.Region, Kind: r.Kind, ID: r.ID},
		{Account: r.Account, Region: "us-east-1", Kind: r.Kind, ID: r.ID},
		{Account: r.Account, Region: r.Region, Kind: "job", ID: r.ID},
	} {
		if exists(t, h, other) {
			t.Errorf("%+v finds another's record", other)
		}
		if err := h.Trim(t.Context(), other.Account, other.Region, other.Kind, noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if !exists(t, h, r) {
		t.Error("trimming another kind removed the record")
	}
}

func historyInvalid(t *testing.T, h bulk.History) {
	for _, id := range []string{"", "a\x00b", strings.Repeat("x", 1025)} {
		err := h.Put(t.Context(), []bulk.HistoryRecord{record("good", noon), record(id, noon)})
		if !errors.Is(err, bulk.ErrInvalid) {
			t.Errorf("Put of id %.10q: %v", id, err)
		}
	}
	if exists(t, h, record("good", noon)) {
		t.Error("a refused Put stored a part of its records")
	}
}

func historyTrimMany(t *testing.T, h bulk.History) {
	var records []bulk.HistoryRecord
	for i := range 12_000 {
		records = append(records, record(fmt.Sprintf("r%05d", i), noon.Add(time.Duration(i)*time.Second)))
	}
	mustPut(t, h, records...)
	trim(t, h, noon.Add(11_000*time.Second))
	for i, want := range map[int]bool{0: false, 5_500: false, 10_999: false, 11_000: true, 11_999: true} {
		if exists(t, h, records[i]) != want {
			t.Errorf("record %d: kept %v, want %v", i, !want, want)
		}
	}
}
