package entra

import (
	"testing"
	"testing/synctest"
	"time"
)

// sent returns how many requests go within d.
func (p *pace) sent(t *testing.T, d time.Duration) (n int) {
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		if err := p.wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(5, 50)
		if n := p.sent(t, 10*time.Second); n < 50 || n > 52 {
			t.Errorf("%d requests in 10 s, want 5 a second", n)
		}
		for range 2000 {
			p.faster()
		}
		if n := p.sent(t, 10*time.Second); n < 490 || n > 502 {
			t.Errorf("%d requests in 10 s after many successes, want the most, 50 a second", n)
		}
		for range 10 { // ten that were in flight together
			p.slower(0)
		}
		if n := p.sent(t, 10*time.Second); n < 200 || n > 202 {
			t.Errorf("%d requests in 10 s, want 25 a second after a pause of 2 s", n)
		}
		p.slower(30 * time.Second)
		start := time.Now()
		if err := p.wait(t.Context()); err != nil || time.Since(start) != 30*time.Second {
			t.Errorf("waited %v, %v; want as long as Graph says", time.Since(start), err)
		}
		for range 100 {
			p.slower(time.Second)
			p.sent(t, time.Second)
			time.Sleep(time.Second)
		}
		if p.rate != least {
			t.Errorf("rate %v, want that it never goes below %v", p.rate, least)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "-3": 0, "soon": 0, "7": 7 * time.Second, "999999999999": time.Hour,
		"Fri, 19 Jul 2024 04:09:30 GMT": 30 * time.Second, "Fri, 19 Jul 2024 04:00:00 GMT": 0, "Fri, 19 Jul 2030 04:00:00 GMT": time.Hour,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// FuzzErrorCode: what is repeated of an answer is one word of letters.
func FuzzErrorCode(f *testing.F) {
	f.Add([]byte(`{"error":{"code":"Request_ResourceNotFound"}}`))
	f.Add([]byte(`{"error":{"code":"496298-461032"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, r := range errorCode(raw) {
			if r >= '0' && r <= '9' || r == ' ' {
				t.Errorf("%q", errorCode(raw))
			}
		}
	})
}
