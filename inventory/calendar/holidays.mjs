// Writes holidays.txt: the public holidays of each country, as date-holidays knows them.
// npm install date-holidays@3.37.0 && node holidays.mjs | gzip -9n > holidays.txt.gz
import Holidays from 'date-holidays'

const from = 2024, until = 2030
const countries = Object.keys(new Holidays().getCountries()).sort()
console.log('# Public holidays that are such in the whole country, ' + from + ' to ' + until + '.')
console.log('# Made by holidays.mjs from date-holidays 3.37.0, https://github.com/commenthol/date-holidays;')
console.log('# its data is CC BY 3.0, in part from Wikipedia. One line: country, name, days (year-month-day).')
for (const country of countries) {
  if (!/^[A-Z]{2}$/.test(country)) continue
  const days = new Map()
  const hd = new Holidays(country)
  for (let year = from; year <= until; year++) {
    for (const h of hd.getHolidays(year, 'en') || []) {
      if (h.type !== 'public') continue
      const name = h.name.replace(/[\t\n]/g, ' ')
      for (let d = new Date(h.date.slice(0, 10) + 'T00:00:00Z'), n = Math.max(1, Math.round((h.end - h.start) / 86400000)); n > 0; n--, d = new Date(d.getTime() + 86400000)) {
        const date = d.toISOString().slice(0, 10)
        if (date.slice(0, 4) > until) continue
        if (!days.has(name)) days.set(name, new Set())
        days.get(name).add(date)
      }
    }
  }
  for (const [name, set] of days) console.log(country + '\t' + name + '\t' + [...set].sort().join(' '))
}
