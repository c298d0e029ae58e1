// Everything that the viewer and the review say to people. A translation is another file of this form.

const rounded = (number) => Number(number.toFixed(Math.abs(number) < 10 ? 1 : 0)).toLocaleString();
const UNITS = { CT: " HU" };

export const STRINGS = {
  // --- opening it
  open: "Images", openLabel: (model) => `Images and result of ${model}`, review: "Review", reviewLabel: (model) => `Review the result of ${model}`,
  openViewer: "Open in OHIF", withdrawnTag: (reason) => `withdrawn: ${reason}`, rejectedTag: (reason) => `rejected: ${reason}`, replacedTag: "replaced by a newer result",
  keysHere: "Keys: v images, a accept, m modify, r reject",
  notVerifiedTag: "AI result – not verified", verifiedBy: (name) => `Verified by ${name}`,
  awaitsSecondTag: (name) => `AI result – decided by ${name}, awaits a second reader`, decidedTag: (state, name) => `AI result – ${state.toLowerCase()} by ${name}`,
  // --- the window
  title: (description) => description || "No description", close: "Close", help: "Keys", noPatient: "Patient not named",
  series: "Series", beside: "Beside it", nothingBeside: "Nothing", pictures: "Heat map and pictures", prior: (date, description) => `Prior ${date} ${description}`.trim(),
  tools: "What dragging does", tool: { window: "Contrast", scroll: "Scroll", zoom: "Zoom", pan: "Move" },
  presets: "Window", presetOf: { image: "As stored", lung: "Lung", mediastinum: "Mediastinum", bone: "Bone", brain: "Brain", liver: "Liver" },
  invert: "Invert", fit: "Fit", masks: "Masks", regions: "Regions", undrawn: "Segmentations that are not drawn",
  undrawnFor: {
    elsewhere: (labels) => `Segmentation not drawn: ${labels}. It lies on none of these images.`,
    size: (labels, mask, image) => `Segmentation not drawn: ${labels}. It has ${mask.columns} × ${mask.rows} pixels, its image ${image.columns} × ${image.rows}.`,
  },
  images: "Images", priorImages: "Images beside", imageViewer: "image viewer",
  // --- at the images
  noImages: "No images", loading: "Loading…", imageOf: (place, all) => `${place} / ${all}`, mm: (mm) => (mm >= 10 ? `${mm / 10} cm` : `${mm} mm`),
  windowIs: (center, width, name) => `C ${rounded(center)} W ${rounded(width)}${name ? ` ${STRINGS.presetOf[name] ?? name}` : ""}`,
  windowStays: "Contrast as stored; it cannot be changed here", masksNotLoaded: (labels, why) => `Segmentation not drawn${labels && `: ${labels}`}. ${why}`,
  valueAt: (column, row, value, modality) => `${column}, ${row}: ${value}${UNITS[modality] ?? ""}`,
  notLoaded: (status) => `The node does not hand this image out (${status}).`, tooShort: "The image is shorter than its header says.",
  noSeries: "The node no longer holds images of this study.", loaded: (here, all) => (here < all ? `${here} of ${all} loaded` : `${all} loaded`),
  // --- findings
  findings: "Findings", noFindings: "The model reported no finding.", show: "Show", showLabel: (label) => `Show ${label} on the images`,
  presence: { PRESENT: "Present", ABSENT: "Absent", UNDETERMINED: "Cannot tell", "": "Not judged" }, notMeasured: "not measurable",
  score: (share) => `score ${(share * 100).toFixed(1)} %`, removed: "not there", added: "Added by the reviewer",
  // --- review
  reviewTitle: "Review", accept: "Accept", modify: "Modify", reject: "Reject", confirm: "Confirm", back: "Back", save: "Save corrections",
  acceptAsk: "Accept this result as it stands? It is reported as verified, in your name.",
  rejectAsk: "Reject this result? It is withdrawn wherever it was sent.",
  modifyAsk: "Correct what is wrong. The corrected result is reported as verified, in your name; the original is kept.",
  confirmAsk: "Confirm what the first reader decided? It is reported as verified, in both your names.", confirmSecond: "Confirm as second reader",
  object: "Object", objectAsk: "Say why you object. The decision falls, and the result is unreviewed again.", needsObjection: "Say why you object.",
  reasons: "Reasons", reasonText: "Remarks", needsReason: "Choose a reason.", needsText: "Say the other reason in the remarks.",
  needsChange: "Nothing has been changed. Accept the result instead.", needsNumber: (label) => `${label}: enter a number.`,
  presenceLabel: "Presence", textLabel: "Remark on it", removeLabel: "Should not have been reported",
  drawRegion: "Draw region", moveRegion: "Change region", regionDone: "Region done", squareRegion: "Put a square", dropRegion: "Remove region",
  drawHint: "Click corner after corner, or draw in one stroke; the first corner or Enter closes it.",
  moveHint: "Drag the region or a corner. Keys: arrows move, Shift ten times as far, n the next corner, Insert and Delete.",
  addFinding: "Add a finding", addedFinding: "What", addedSite: "Where", addedSide: "Side", noSide: "None", dropFinding: "Take it out again",
  mayNot: "You may look, but not review.", isReport: "This result tells a person's review.",
  reviewFailedTag: "the report of a review failed: decide again", reviewWaitsTag: "its report cannot be made yet",
  reviewFailed: (why) => `A decision on this result failed: its report could not be made. ${why} Remove the cause, then decide again.`,
  reviewWaits: (why) => `The report of the decision cannot be made yet and is tried again. ${why}`,
  awaitsOther: "Another person must confirm what you decided.",
  isReviewed: (state, name, when) => `${STRINGS.stateOf[state] ?? state} by ${name}${when ? `, ${when}` : ""}.`,
  stateOf: { UNREVIEWED: "Not reviewed", ACCEPTED: "Accepted", MODIFIED: "Modified", REJECTED: "Rejected" },
  awaitsSecond: (name, when) => `Decided by ${name}, ${when}. A second reader must confirm it.`,
  done: { accept: "Accepted.", modify: "Corrections saved.", reject: "Rejected.", confirm: "Confirmed.", object: "Your objection is kept." },
  sending: "Saving…", keys: [
    ["a", "accept"], ["m", "modify"], ["r", "reject"], ["Enter", "confirm"], ["Esc", "back, close"], ["?", "these keys"],
    ["↑ ↓", "image by image"], ["Page ↑ ↓", "ten images"], ["Home End", "first, last image"], ["+ -", "zoom"], ["Shift and arrows", "move"],
    ["f", "fit"], ["[ ] , .", "window width, centre"], ["1 to 5", "lung, mediastinum, bone, brain, liver"], ["0", "window as stored"], ["i", "invert"],
    ["s", "masks on and off"], ["o", "regions on and off"], ["h", "heat map beside"], ["p", "prior beside"], ["x", "nothing beside"],
  ],
  // Codes of core/assessment/review.py; a test holds both to each other.
  reasonOf: {
    FALSE_POSITIVE: "Something was reported that is not there.",
    FALSE_NEGATIVE: "Something that is there was missed.",
    WRONG_MEASUREMENT: "A number is wrong.",
    WRONG_REGION: "The place or outline is wrong.",
    WRONG_SIDE: "The side of the body is wrong.",
    WRONG_WORDING: "The finding is right and called by the wrong name.",
    UNSUITABLE_IMAGES: "The images do not allow this judgement.",
    NOT_RELEVANT: "It is right and of no use for this patient.",
    OTHER: "Another reason, which the text says.",
  },
};
