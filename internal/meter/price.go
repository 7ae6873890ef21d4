package meter

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"skerry/internal/store"
)

// Money is an amount in millionths of a millionth of a US dollar, in which every
// price of AWS's is a whole number.
type Money int64

const dollar Money = 1e12

// String returns the amount in dollars, such as 0.0000166667.
func (m Money) String() string {
	s := new(big.Rat).SetFrac64(int64(m), int64(dollar)).FloatString(12)
	s = strings.TrimRight(s, "0")
	if i := strings.IndexByte(s, '.'); len(s)-i < 3 {
		s += strings.Repeat("0", 3-(len(s)-i))
	}
	return s
}

// UnmarshalJSON reads a decimal number of dollars.
func (m *Money) UnmarshalJSON(b []byte) error {
	r, ok := new(big.Rat).SetString(strings.Trim(string(b), `"`))
	if !ok {
		return fmt.Errorf("meter: %s is no amount", b)
	}
	r.Mul(r, new(big.Rat).SetInt64(int64(dollar)))
	if !r.IsInt() || !r.Num().IsInt64() {
		return fmt.Errorf("meter: %s has too many digits", b)
	}
	*m = Money(r.Num().Int64())
	return nil
}

// Price is what a usage type costs in a region from a date on.
type Price struct {
	Service string
	Type    string
	Region  string    // "*" where no other entry names the region
	From    time.Time // of the price list
	Unit    string    // what is priced, such as "GB-Second"
	Of      string    // the unit of quantities
	Per     int64     // quantities in one unit
	Free    int64     // quantities that are free every month, in all regions together
	Tiers   []Tier
}

// Tier is the price of one unit up to a quantity in a month.
type Tier struct {
	UpTo int64 // quantity in a month and region at which the next tier begins; 0: no end
	USD  Money
}

//go:embed prices.json
var priceList []byte

// Prices returns AWS's public prices that Skerry knows.
func Prices() ([]Price, error) {
	var p []Price
	if err := json.Unmarshal(priceList, &p); err != nil {
		return nil, fmt.Errorf("meter: prices: %w", err)
	}
	return p, nil
}

// find returns the price that holds at a time.
func find(prices []Price, service, usage, region string, at time.Time) *Price {
	var best *Price
	for i, p := range prices {
		if p.Service != service || p.Type != usage || p.Region != region && p.Region != "*" || p.From.After(at) {
			continue
		}
		if best == nil || best.Region == "*" && p.Region != "*" || best.Region == p.Region && p.From.After(best.From) {
			best = &prices[i]
		}
	}
	return best
}

// Charge is a line of a bill: the usage of one resource of one type in one hour.
type Charge struct {
	Line
	Price *Price // nil: Skerry has no price for it, and it costs nothing
	Free  int64  // how much of the quantity the monthly free tier took
	Cost  Money
}

// Bill is what an account has used in a period.
type Bill struct {
	Charges []Charge
	Total   Money
}

// Bill computes the bill of an account for the hours from from (included) to to
// (excluded). Free tiers and price tiers count from the beginning of each month
// in UTC, so usage before from is read as well.
func (m *Meter) Bill(ctx context.Context, account string, from, to time.Time, prices []Price) (Bill, error) {
	var b Bill
	month := time.Date(from.UTC().Year(), from.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	err := m.db.View(ctx, func(tx *store.Tx) error {
		b = Bill{}
		used := usedInMonth{}
		for l, err := range m.Lines(tx, account, month, to) {
			if err != nil {
				return err
			}
			c := used.charge(l, prices)
			if l.Hour.Before(from) {
				continue
			}
			b.Charges = append(b.Charges, c)
			b.Total += c.Cost
		}
		return nil
	})
	b.Charges = slices.Clip(b.Charges)
	return b, err
}

// usedInMonth counts quantities towards free tiers and price tiers.
type usedInMonth map[string]int64

// charge prices a line. Lines come in the order of time.
func (u usedInMonth) charge(l Line, prices []Price) Charge {
	c := Charge{Line: l, Price: find(prices, l.Service, l.Type, l.Region, l.Hour)}
	if c.Price == nil || c.Price.Of != l.Unit {
		c.Price = nil
		return c
	}
	id := strings.Join([]string{l.Hour.Format("2006-01"), l.Service, l.Type}, "|")
	paid := l.Quantity
	if left := c.Price.Free - u[id]; left > 0 {
		c.Free = min(left, paid)
		paid -= c.Free
	}
	u[id] += l.Quantity
	id += "|" + l.Region
	cost := new(big.Int)
	for _, t := range c.Price.Tiers {
		part := paid
		if t.UpTo > 0 {
			part = min(paid, max(0, t.UpTo-u[id]))
		}
		cost.Add(cost, new(big.Int).Mul(big.NewInt(part), big.NewInt(int64(t.USD))))
		u[id] += part
		paid -= part
	}
	c.Cost = Money(cost.Div(cost, big.NewInt(c.Price.Per)).Int64())
	return c
}
