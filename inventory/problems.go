package inventory

import (
	"fmt"
	"strings"
)

// Problems are the values of a fleet that cannot be used. The first ones are kept in full,
// the rest are counted, so that a million bad rows cost no memory. It marshals to JSON.
type Problems struct {
	First []*RowError `json:"problems"` // in the order they were found
	Total int         `json:"total"`    // of values
	Rows  int         `json:"rows"`     // that have at least one
}

// keepProblems is how many problems are kept in full unless Options says otherwise.
const keepProblems = 1000

// Error says how many there are, then each on a line of its own.
func (p *Problems) Error() string {
	return fmt.Sprintf("%d values in %d rows cannot be used:\n%s", p.Total, p.Rows, strings.Join(p.Lines(), "\n"))
}

// Lines returns one line for each problem kept, and one that counts the others.
func (p *Problems) Lines() []string {
	lines := make([]string, 0, len(p.First)+1)
	for _, e := range p.First {
		lines = append(lines, e.Error())
	}
	if more := p.Total - len(p.First); more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", more))
	}
	return lines
}

// add records e, in full unless keep are kept already.
func (p *Problems) add(e *RowError, keep int) {
	p.Total++
	if len(p.First) < keep {
		p.First = append(p.First, e)
	}
}
