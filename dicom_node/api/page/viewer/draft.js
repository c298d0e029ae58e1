// A review while it is being written: each finding as it stands by now, and what of it differs from what the model said.

const DECISIONS = { accept: "ACCEPTED", modify: "MODIFIED", reject: "REJECTED", confirm: "CONFIRMED", object: "OBJECTED" };

/** One editable copy of each finding. */
export const draftOf = (findings) => findings.map((said) => ({
  key: said.key, label: said.label, said, presence: said.presence ?? "", text: "", removed: false, region: said.region ?? null,
  measurements: (said.measurements ?? []).map((one) => ({ ...one, was: one.value })),
}));

/** What is told of a changed finding; `null` where it stands as the model said it. Of a removed one nothing else is. */
export function changeOf(one) {
  const text = one.text.trim() ? { text: one.text.trim() } : {};
  if (one.removed) return { key: one.key, removed: true, ...text };
  const measured = one.measurements.map(({ value, was, unit }, place) => ({ place, value, unit: unit.value, was }))
    .filter(({ value, was }) => value !== was).map(({ place, value, unit }) => ({ place, value, unit }));
  const change = {
    ...(one.presence !== (one.said.presence ?? "") && { presence: one.presence }),
    ...(measured.length && { measurements: measured }),
    ...text,
    ...(!sameRegion(one.region, one.said.region) && { region: one.region }),
  };
  return Object.keys(change).length ? { key: one.key, ...change } : null;
}

const sameRegion = (a, b) => JSON.stringify(placeOf(a)) === JSON.stringify(placeOf(b));
const placeOf = (region) => (region ? [region.sop_instance_uid, region.frame_number ?? null, region.points_xy_px] : null);

/** The decision as the node takes it. */
export function bodyOf(decision, { findings = [], added = [], reasons = [], text = "" }) {
  const body = { decision: DECISIONS[decision], reasons: decision === "accept" ? [] : reasons, text: text.trim() };
  if (decision !== "modify") return body;
  return { ...body, findings: findings.map(changeOf).filter(Boolean), added: added.map(addedOf) };
}

const codeOf = ({ value, scheme, meaning }) => ({ value, scheme, meaning });

const addedOf = ({ finding, site, side, label, presence, text, region }) => ({
  finding, site: codeOf(site), ...(side && { laterality: codeOf(side) }), label: label.trim(), presence,
  text: text.trim(), ...(region && { region }) });

/** Reasons that the changes themselves give: they are ticked for the reader, who may take them away. */
export function reasonsIn(findings, added) {
  const changes = findings.map((one) => [one, changeOf(one)]).filter(([, change]) => change);
  const turned = (from, to) => changes.some(([one, change]) => one.said.presence === from && change.presence === to);
  const given = [
    (changes.some(([, change]) => change.removed) || turned("PRESENT", "ABSENT")) && "FALSE_POSITIVE",
    (added.length > 0 || turned("ABSENT", "PRESENT")) && "FALSE_NEGATIVE",
    changes.some(([, change]) => change.measurements) && "WRONG_MEASUREMENT",
    changes.some(([, change]) => "region" in change) && "WRONG_REGION",
  ];
  return given.filter(Boolean);
}
