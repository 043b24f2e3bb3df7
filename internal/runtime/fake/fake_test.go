package fake_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"longshore.dev/longshore/internal/runtime"
	"longshore.dev/longshore/internal/runtime/fake"
	"longshore.dev/longshore/internal/runtime/runtimetest"
)

func TestContract(t *testing.T) {
	runtimetest.Run(t, func(*testing.T) runtimetest.Harness {
		return runtimetest.Harness{
			Runtime: fake.New(fake.Options{}),
			Spec:    func(id string) runtime.Spec { return runtime.Spec{ID: id, Group: "g-" + id} },
		}
	})
}

func TestSleepTakesNoRealTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ctx := fake.New(fake.Options{}), context.Background()
		if err := r.Create(ctx, runtime.Spec{ID: "a", Group: "g", Args: []string{"sleep", "3600"}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if exit, err := r.Wait(ctx, "a"); err != nil || exit.Code != 0 || exit.At.Sub(begin) != time.Hour {
			t.Errorf("exit %+v, %v", exit, err)
		}
	})
}

func TestExitInAnyWay(t *testing.T) {
	r, ctx := fake.New(fake.Options{}), context.Background()
	if err := r.Create(ctx, runtime.Spec{ID: "a", Group: "g", Args: []string{"ignore"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Exit("a", runtime.Exit{Code: 137, Lost: true}); err != nil {
		t.Fatal(err)
	}
	if exit, err := r.Wait(ctx, "a"); err != nil || !exit.Lost || exit.At.IsZero() {
		t.Errorf("exit %+v, %v", exit, err)
	}
}
