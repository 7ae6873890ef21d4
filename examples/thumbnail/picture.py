"""Draws a sample picture, so that the example needs none: picture.py FILE [N]"""

import math
import sys

from PIL import Image, ImageDraw


def draw(n: int) -> Image.Image:
    """A rocky islet in the sea; n moves the sun."""
    w, h = 1600, 1000
    image = Image.new("RGB", (w, h))
    pen = ImageDraw.Draw(image)
    for y in range(h):  # sky above, sea below
        t = y / h
        sky = (int(250 - 120 * t), int(200 - 20 * t), int(150 + 80 * t))
        sea = (int(20 + 30 * t), int(90 - 20 * t), int(120 - 20 * t))
        pen.line([(0, y), (w, y)], fill=sky if y < 640 else sea)
    x = 200 + (n * 137) % 1200
    pen.ellipse([x - 90, 220, x + 90, 400], fill=(255, 244, 200))
    pen.polygon([(380, 660), (620, 380), (760, 500), (900, 330), (1260, 660)], fill=(70, 72, 78))
    pen.polygon([(620, 380), (760, 500), (700, 660), (540, 660)], fill=(96, 98, 104))
    for i in range(14):
        y = 690 + i * 22
        wave = [(q, y + 6 * math.sin(q / 60 + i)) for q in range(0, w + 20, 20)]
        pen.line(wave, fill=(150, 190, 200), width=2)
    return image


if __name__ == "__main__":
    draw(int(sys.argv[2]) if len(sys.argv) > 2 else 0).save(sys.argv[1], "JPEG", quality=92)
