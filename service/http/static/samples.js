// Things to ask about, drawn here: no picture of anybody's is part of the page.

const SIZE = 224;

const DRAWINGS = {
  "T-shirt": "M60 50 L90 40 Q112 62 134 40 L164 50 L200 90 L176 108 L160 92 L160 190 L64 190 L64 92 L48 108 L24 90 Z",
  "trousers": "M74 30 L150 30 L162 200 L124 200 L112 84 L100 200 L62 200 Z",
  "dress": "M92 28 L132 28 L128 84 L168 200 L56 200 L96 84 Z",
  "sneaker": "M22 146 L26 112 Q48 122 66 96 L82 88 Q112 126 158 128 Q206 132 206 152 L206 166 L22 166 Z",
  "bag": "M34 92 L190 92 L202 190 L22 190 Z M76 92 Q76 34 112 34 Q148 34 148 92 L134 92 Q134 50 112 50 Q90 50 90 92 Z",
};

function draw(path) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "black"; // as the built-in images have it
  pen.fillRect(0, 0, SIZE, SIZE);
  const shade = pen.createLinearGradient(0, 0, SIZE, SIZE);
  shade.addColorStop(0, "#f2f2f2");
  shade.addColorStop(1, "#9a9a9a");
  pen.fillStyle = shade;
  pen.fill(new Path2D(path));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Every sample as a PNG file. */
export function samples() {
  return Promise.all(
    Object.entries(DRAWINGS).map(async ([name, path]) =>
      new File([await draw(path)], `${name}.png`, { type: "image/png" })),
  );
}
