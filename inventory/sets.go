package inventory

// A list is rows that do not move as it grows: copies of a large slice would be what a fleet
// needs most memory for.
type list struct {
	chunks [][]Host
	n      int
}

const chunk = 1 << 12

// add appends a row.
func (l *list) add(h Host) {
	if l.n%chunk == 0 {
		l.chunks = append(l.chunks, make([]Host, 0, chunk))
	}
	last := &l.chunks[len(l.chunks)-1]
	*last = append(*last, h)
	l.n++
}

// at returns a row, to be changed in place.
func (l *list) at(i int32) *Host { return &l.chunks[i/chunk][i%chunk] }

// cut leaves the first n rows.
func (l *list) cut(n int) {
	for i := n; i < l.n; i++ {
		*l.at(int32(i)) = Host{}
	}
	l.n = n
}

// sets are rows that are joined into hosts: a union-find structure.
type sets []int32

// A cluster is the rows of one host, or of what may be one, in their order.
type cluster []int32

// newSets returns n rows, each on its own.
func newSets(n int) sets {
	s := make(sets, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

// clone returns a copy.
func (s sets) clone() sets { return append(sets(nil), s...) }

// find returns the first row of those joined with r.
func (s sets) find(r int32) int32 {
	for s[r] != r {
		s[r] = s[s[r]]
		r = s[r]
	}
	return r
}

// union joins the rows of a with those of b.
func (s sets) union(a, b int32) {
	a, b = s.find(a), s.find(b)
	s[max(a, b)] = min(a, b)
}

// clusters calls f with each set of more than one row, in the order of their first rows. The
// cluster is f's only until it returns.
func (s sets) clusters(f func(cluster)) {
	s.all(func(c cluster) {
		if len(c) > 1 {
			f(c)
		}
	})
}

// all calls f with each set.
func (s sets) all(f func(cluster)) {
	next := make([]int32, len(s)+1)
	for i := range s {
		next[s.find(int32(i))+1]++
	}
	for i := range s {
		next[i+1] += next[i]
	}
	// next[root] is now where the rows of root begin.
	members := make([]int32, len(s))
	at := append([]int32(nil), next[:len(s)]...)
	for i := range s {
		root := s.find(int32(i))
		members[at[root]] = int32(i)
		at[root]++
	}
	for i := range s {
		if rows := members[next[i]:next[i+1]]; len(rows) > 0 {
			f(cluster(rows))
		}
	}
}
