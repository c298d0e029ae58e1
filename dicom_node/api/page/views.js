// What is shown beside the list. Loaded when the list has been painted: nobody waits for it to see that.

import { agreementView, asked as agreementAsked } from "./agreement.js";
import { alarmsView } from "./alarms.js";
import { get, session } from "./api.js";
import { asked as concordanceAsked, concordanceView } from "./concordance.js";
import { driftView } from "./drift.js";
import { caseHead, historyView } from "./history.js";
import { modelsView } from "./models.js";
import { deliveriesView, nodeView } from "./node.js";
import { overview } from "./overview.js";
import { accountView, peopleView } from "./people.js";
import { rulesView } from "./rules.js";
import { deliveriesTable, studyView } from "./study.js";

const MOST_VERSIONS = 100; // of a study, shown
let agreement = agreementAsked(); // which groups of results are told apart
let concordance = concordanceAsked(); // and of findings

/** By its name, what makes a view of what its address says and of what the page lets it do. */
const VIEWS = {
  study: caseParts,
  deliveries: async (state, { act }) => {
    const deliveries = await get(`/api/v1/deliveries?state=${state}`);
    return deliveriesView(state, deliveries, deliveriesTable(deliveries, act, true));
  },
  people: (_, { change }) => peopleView(change),
  account: (_, { change }) => accountView(session.me, change),
  agreement: agreementParts,
  concordance: concordanceParts,
  rules: (_, { act, change }) => rulesView(act, change),
  models: (name) => modelsView(name && decodeURIComponent(name)),
  node: async (_, { asking, act }) => {
    const [status, told, models, routes, shadows, destinations, alarms, drift, stops] = await Promise.all(
      [asking, ...["waiting", "models", "routes", "shadows", "destinations", "alarms?limit=50", "drift", "drift/stops"].map((what) => get(`/api/v1/${what}`))]);
    return [overview(told, act), alarmsView(alarms, act), driftView(drift, stops, act), nodeView(models, routes, status, shadows, destinations, act)];
  },
};

/** Somebody may be typing in these: they are not made anew by themselves. */
const FORMS = new Set(["people", "account", "agreement", "concordance", "rules"]);
export const isForm = (view) => FORMS.has(view);

/**
 * The parts of a view; `null`: something else is asked for by now. `page` has `asking`, the status that is on its way,
 * `act` and `change` for what is done, and `again`, which shows the view once more.
 */
export const partsOf = async (view, argument, page) => VIEWS[view](argument, page);

async function agreementParts(_, { again }) {
  const wanted = agreement;
  const models = Object.keys(await get("/api/v1/models"));
  const parts = await agreementView(models, wanted, (asked) => { agreement = asked; again(); });
  return wanted === agreement ? parts : null;
}

async function concordanceParts(_, { again }) {
  const wanted = concordance;
  const models = Object.keys(await get("/api/v1/models"));
  const parts = await concordanceView(models, wanted, (asked) => { concordance = asked; again(); });
  return wanted === concordance ? parts : null;
}

/** One study: whose it is and what keeps its result, everything known of it, and what was found before. */
async function caseParts(uid, { asking, act }) {
  const address = `/api/v1/studies/${uid}`;
  const [[study, timeline, versions], [entry, history], { viewer }] = await Promise.all([receivedOf(address), patientOf(uid), asking]);
  return [caseHead(entry), studyView({ ...study, versions, viewer }, timeline, act), historyView(history, uid)];
}

async function receivedOf(address) {
  const [study, timeline] = await Promise.all([get(address), get(`${address}/timeline`)]);
  const isCorrected = study.series.some((s) => s.superseded > 0) || timeline.some((line) => line.kind === "corrected");
  return [study, timeline, isCorrected ? await get(`${address}/versions?limit=${MOST_VERSIONS}`) : { total: 0, instances: [] }];
}

async function patientOf(uid) {
  const entry = await get(`/api/v1/worklist/${uid}`);
  return [entry, entry.patient?.patient_id ? await historyOf(entry.patient) : []];
}

function historyOf({ patient_id: number, issuer }) {
  const asked = issuer ? `?${new URLSearchParams({ issuer })}` : "";
  return get(`/api/v1/patients/${encodeURIComponent(number)}/history${asked}`);
}
