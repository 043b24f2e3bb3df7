package membulk_test

import (
	"testing"

	"longshore.dev/longshore/internal/bulk"
	"longshore.dev/longshore/internal/bulk/bulktest"
	"longshore.dev/longshore/internal/bulk/membulk"
)

func TestContracts(t *testing.T) {
	bulktest.Logs(t, func(testing.TB) bulk.Logs { return membulk.NewLogs() })
	bulktest.History(t, func(testing.TB) bulk.History { return membulk.NewHistory() })
}
