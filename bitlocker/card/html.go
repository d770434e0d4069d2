package card

import (
	"fmt"
	"html/template"
	"io"
)

// page is one page of HTML that loads nothing. The symbols are as wide on paper as on the
// screen, in whole pixels a module.
const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<title>Recovery card of {{.Host}}</title>
<style>
body { font: 15px/1.35 sans-serif; color: #000; background: #fff; max-width: 780px; margin: 16px auto; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 16px; margin: 14px 0 4px; }
p { margin: 4px 0; }
svg { display: block; background: #fff; shape-rendering: crispEdges; }
.id { font: 18px monospace; }
.id b { font-size: 30px; border: 3px solid #000; padding: 0 6px; }
.codes { display: flex; gap: 24px; align-items: flex-start; }
.groups { font: 22px monospace; border-collapse: collapse; }
.groups td { padding: 2px 12px; border: 1px solid #999; }
.groups small { font: 12px sans-serif; }
.password { font: 22px monospace; border: 1px solid #000; padding: 2px 8px; white-space: pre; }
ol { margin: 4px 0; padding-left: 24px; }
footer { font-size: 12px; margin-top: 12px; }
@media print {
  @page { size: A4; margin: 10mm; }
  body { margin: 0; }
  svg, .groups, .id { break-inside: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
</style>
</head>
<body>
<h1>{{.Host}}{{with .Site}} <small>({{.}})</small>{{end}}</h1>
<p class="id">Recovery key ID <b>{{.First}}</b>{{.Rest}}</p>
<div class="codes">
<div><h2>Scan this</h2>{{template "symbol" .Square}}</div>
<div><h2>Or read it out, group by group</h2>
<table class="groups">{{range .Groups}}<tr>{{range .}}<td><small>{{.No}}</small> {{.Digits}}</td>{{end}}</tr>{{end}}</table></div>
</div>
{{range $i, $bar := .Bars}}<h2>Or these two, in order: {{$bar.Label}}</h2>{{template "symbol" $bar}}
{{end}}{{with .Password}}<h2>Local administrator {{$.Admin}}</h2><p><span class="password">{{.}}</span></p>
{{end}}<h2>What to do</h2>
<ol>{{range .Steps}}<li>{{.}}</li>
{{end}}</ol>
<footer>{{.Origin}}</footer>
</body>
</html>
{{define "symbol"}}<svg width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Columns}} {{.Rows}}" role="img" aria-label="{{.Label}}"><path d="{{.Path}}"/></svg>{{end}}`

// A figure is a symbol as the template needs it.
type figure struct {
	Label                        string
	Path                         string
	Width, Height, Columns, Rows int
}

func newFigure(label string, s symbol) figure {
	return figure{label, s.svg(), s.width(), s.height(), len(s.modules[0]), len(s.modules) * s.stretch}
}

type numbered struct {
	No     int
	Digits string
}

// HTML writes the card as one file that loads nothing from elsewhere.
func (c Card) HTML(w io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	square, bars, err := c.symbols()
	if err != nil {
		return err
	}
	first, rest := c.idParts()
	var groups [4][]numbered // two columns of four, as on the image
	for i, g := range c.groups() {
		groups[i%4] = append(groups[i%4], numbered{i + 1, g})
	}
	t, err := template.New("card").Parse(page)
	if err != nil {
		return err
	}
	figures := make([]figure, len(bars))
	for i, b := range bars {
		figures[i] = newFigure(barLabel(i), b)
	}
	return t.Execute(w, map[string]any{
		"Host": c.Host, "Site": c.Site, "First": first, "Rest": rest, "Groups": groups,
		"Square": newFigure("QR code", square), "Bars": figures,
		"Admin": c.Admin, "Password": c.Password.Reveal(), "Steps": c.steps(), "Origin": c.origin(),
	})
}

func barLabel(i int) string { return fmt.Sprintf("%d of 2", i+1) }
