// The pictures that a result brought, heat maps first, as images of a viewport.

const HEAT = /heat|map|saliency|cam/i;

/** One image for each picture among the objects of a result. */
export async function picturesOf(artifacts) {
  const shown = artifacts.filter((one) => one.has_preview);
  const sorted = [...shown].sort((a, b) => Number(HEAT.test(b.description)) - Number(HEAT.test(a.description)));
  return Promise.all(sorted.map(async (one) => {
    const url = `/api/v1/artifacts/${one.uid}/preview.png`;
    const picture = await bitmapAt(url);
    const size = { rows: picture.height, columns: picture.width };
    picture.close();
    return { url, sop: one.uid, frame: 1, frames: 1, samples: 3, aspect: 1, windows: [], isNative: false, modality: "SC", ...size };
  }));
}

export async function loadPicture(image) {
  return { picture: await bitmapAt(image.url), size: image.rows * image.columns * 4 };
}

async function bitmapAt(url) {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw Object.assign(new Error((await answer.json().catch(() => ({}))).detail ?? answer.statusText), { status: answer.status });
  return createImageBitmap(await answer.blob());
}
