package hive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Log is one transaction log of a hive, as it is on the disk.
type Log struct {
	Name    string // for messages
	Content []byte
}

// A Recovery is what replaying logs makes of a hive.
type Recovery struct {
	Primary []byte   // the whole file, clean; that which came in if it was clean
	Entries int      // replayed
	Logs    []string // names of those that were
}

// A LostError says that a dirty hive cannot be brought up to date.
type LostError struct {
	Why []string // for each log, or for what became of them
}

func (e *LostError) Error() string {
	return "its logs do not restore it: " + strings.Join(e.Why, "; ")
}

// Recover brings a dirty primary file up to date by the logs that continue it, as Windows does
// when it loads it, and sees that the result passes the load test. A file that is clean is
// returned as it is, whatever the logs hold: Windows ignores them too. Primary and logs are
// not written to. It fails with a *LostError.
func Recover(primary []byte, logs ...Log) (Recovery, error) {
	if !Dirty(primary) {
		return Recovery{Primary: primary}, nil
	}
	lost := &LostError{}
	var read []*journal
	for _, l := range logs {
		j, err := readLog(l)
		if err == nil {
			err = j.continues(primary)
		}
		if err != nil {
			lost.Why = append(lost.Why, err.Error())
			continue
		}
		read = append(read, j)
	}
	read = chain(primary, read)
	if err := gap(primary, read); err != nil {
		lost.Why = append(lost.Why, err.Error())
		return Recovery{}, lost
	}
	r, err := replay(primary, read)
	if err == nil {
		_, err = Open(r.Primary)
	}
	if err != nil {
		lost.Why = append(lost.Why, fmt.Sprintf("%d changes were replayed, and it is still damaged: %v", r.Entries, err))
		return Recovery{}, lost
	}
	return r, nil
}

// continues says why a log is not one that goes on where the primary file ends, or nil.
func (j *journal) continues(primary []byte) error {
	valid := checkBase(primary) == nil
	switch {
	case j.kind != typeLog && written(j.base) < since(primary, valid):
		return fmt.Errorf("%s is older than the hive", j.name)
	case j.kind == typeLog && valid && before(j.entries[len(j.entries)-1].sequence, get(primary, offSecondary)):
		return fmt.Errorf("%s ends with change %d, and the hive has %d", j.name, j.entries[len(j.entries)-1].sequence, get(primary, offSecondary))
	}
	return nil
}

// since is the last write of a primary file; the first bin has a copy.
func since(primary []byte, valid bool) uint64 {
	switch {
	case valid:
		return written(primary)
	case len(primary) >= baseSize+binHeader && string(primary[baseSize:baseSize+4]) == "hbin":
		return binary.LittleEndian.Uint64(primary[baseSize+20:])
	}
	return 0
}

// before compares sequence numbers, which begin again at zero.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// chain returns the logs to replay, in order: one, or two that follow each other without a
// gap.
func chain(primary []byte, logs []*journal) []*journal {
	slices.SortStableFunc(logs, func(a, b *journal) int { return int(int32(a.first() - b.first())) })
	if len(logs) < 2 {
		return logs
	}
	a, b := logs[0], logs[1]
	switch {
	case a.kind != typeLog || b.kind != typeLog:
		return logs[1:2] // each is whole by itself: the newer
	case a.entries[len(a.entries)-1].sequence+1 == b.first():
		return logs[:2]
	case checkBase(primary) != nil:
		return logs[1:2] // as Windows does
	}
	return logs[:1]
}

// gap says why the logs do not begin where the primary file ends: the first change that is due
// has its secondary sequence number. Without a base block only the copy of its time tells that
// the logs are of long ago.
func gap(primary []byte, logs []*journal) error {
	switch {
	case len(logs) == 0:
		return errors.New("no log continues it")
	case checkBase(primary) != nil && written(logs[len(logs)-1].base) < since(primary, false):
		return fmt.Errorf("%s is older than the hive", logs[len(logs)-1].name)
	case logs[0].kind != typeLog || checkBase(primary) != nil:
		return nil
	case before(get(primary, offSecondary), logs[0].first()):
		return fmt.Errorf("%s begins with change %d, and the hive has %d", logs[0].name, logs[0].first(), get(primary, offSecondary))
	}
	return nil
}

// replay applies logs to a copy.
func replay(primary []byte, logs []*journal) (Recovery, error) {
	r := Recovery{Primary: bytes.Clone(primary)}
	base := logs[len(logs)-1].base
	if checkBase(primary) == nil {
		base = primary[:sectorSize]
		for _, j := range logs {
			j.skip(get(primary, offSecondary))
		}
	}
	sequence, flags, size := get(base, offPrimary), get(base, offFlags), get(base, offBinsSize)
	for _, j := range logs {
		for _, e := range j.entries {
			if err := r.apply(e); err != nil {
				return r, err
			}
			sequence, flags, size = e.sequence, e.flags, e.binsSize
		}
		r.Logs = append(r.Logs, j.name)
	}
	if len(r.Primary) < baseSize {
		return r, errors.New("not even its base block is there")
	}
	b := r.Primary
	copy(b, base)
	put(b, offType, typePrimary)
	put(b, offPrimary, sequence)
	put(b, offSecondary, sequence)
	put(b, offFlags, flags)
	put(b, offBinsSize, size)
	seal(b)
	return r, nil
}

// skip drops the entries that the primary file has already.
func (j *journal) skip(have uint32) {
	if j.kind == typeLog {
		j.entries = slices.DeleteFunc(j.entries, func(e entry) bool { return before(e.sequence, have) })
	}
}

// apply writes the pages of one entry, and grows the file by no more than they fill.
func (r *Recovery) apply(e entry) error {
	need, fill := baseSize+int(e.binsSize), 0
	for _, p := range e.pages {
		if int64(p.at)+int64(len(p.data)) > int64(e.binsSize) {
			return fmt.Errorf("change %d has a page at %#x, behind the end", e.sequence, p.at)
		}
		fill += len(p.data)
	}
	if need > MaxSize || need > max(len(r.Primary), baseSize)+fill {
		return fmt.Errorf("change %d has %d bytes of bins and the hive %d", e.sequence, e.binsSize, len(r.Primary)-baseSize)
	}
	if grow := need - len(r.Primary); grow > 0 {
		r.Primary = append(r.Primary, make([]byte, grow)...)
	}
	for _, p := range e.pages {
		copy(r.Primary[baseSize+int(p.at):], p.data)
	}
	r.Entries++
	return nil
}
