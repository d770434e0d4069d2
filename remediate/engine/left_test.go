package engine

import (
	"context"
	"testing"

	"unbrick/remediate"
)

// The state says what a process left in the middle that was killed, and with which command it is put
// back; cancelled hosts are not put back before that either.
func TestLeft(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		point         string
		hosts, inside int
	}{{"effect check", 2, 0}, {"effect enter", 2, 2}, {"before leave", 2, 2}, {"after leave", 2, 0}} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			path, s, w, url := setup(t, "none#1", "none#2")
			if st, err := s.Status(ctx, ""); err != nil || st.Left != nil || st.Workers != 0 {
				t.Errorf("%+v, %v", st, err)
			}
			cmd := startChild(t, path, url, c.point, "", childLine+"=unbrick run --all")
			cmd.Wait()
			if got := cmd.ProcessState.String(); got != "signal: killed" {
				t.Fatalf("the child ended with %s: %s", got, cmd.Stderr)
			}
			check := func() {
				t.Helper()
				st, err := s.Status(ctx, "")
				if err != nil || st.Workers != 0 || st.Left == nil || st.Left.Hosts != c.hosts || st.Left.NotPutBack != c.inside ||
					len(st.Left.Commands) != 1 || st.Left.Commands[0].Line != "unbrick run --all" || st.Left.Commands[0].Machine == "" {
					t.Errorf("%+v %+v, %v", st, st.Left, err)
				}
			}
			check()
			if n, err := s.Cancel(ctx, "", "ops"); n != 2 || err != nil {
				t.Error(n, err)
			}
			check()
			sum := runs(t, testEngine(s, url))
			if st, err := s.Status(ctx, ""); err != nil || st.Left != nil || sum.Left != nil || sum.Running != 0 {
				t.Errorf("%+v, %+v, %v", sum, st, err)
			}
			got := verdicts(t, s)
			for name, v := range got {
				if v != remediate.Failed && v != remediate.Unconfirmed { // the volume may have been repaired before
					t.Errorf("%s is %s", name, v)
				}
			}
			w.check(t, got)
		})
	}
}
