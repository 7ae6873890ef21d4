package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
)

// islet draws the demo's picture: a rocky islet in the sea, 1600 by 1000.
func islet() []byte {
	const w, h, horizon = 1600, 1000, 640
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		t := float64(y) / h
		for x := range w {
			c := color.RGBA{uint8(250 - 120*t), uint8(200 - 20*t), uint8(150 + 80*t), 255} // sky
			switch {
			case y >= horizon:
				c = color.RGBA{uint8(20 + 30*t), uint8(90 - 20*t), uint8(120 - 20*t), 255} // sea
				if y > horizon+30 && (y+int(6*math.Sin(float64(x)/60+float64(y/22))))%22 < 2 {
					c = color.RGBA{150, 190, 200, 255}
				}
			case y > int(rock(float64(x))):
				c = color.RGBA{70, 72, 78, 255}
			case (x-300)*(x-300)+(y-310)*(y-310) < 90*90:
				c = color.RGBA{255, 244, 200, 255} // sun
			}
			m.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, m, &jpeg.Options{Quality: 92}) // a buffer takes everything
	return b.Bytes()
}

// rock is the height at which the islet begins at x, two peaks.
func rock(x float64) float64 {
	return min(380+math.Abs(x-620)*1.1, 330+math.Abs(x-900)*0.95)
}
