// The reports of the page. Each is a request to one report of the API.
//
//   api        the report of the API
//   fixed      parameters that the page sets; their controls are hidden
//   groups     what is grouped by if the address has no groupBy
//   automatic  whether the interval follows the range if the address has none; otherwise the range is one bucket
//   hidden     further controls that are hidden
export const VIEWS = {
  events: { title: "Events", api: "events", groups: "source", automatic: true, hidden: ["metrics"] },
  revenue: { title: "Revenue", api: "revenue", groups: "source", automatic: true, hidden: ["metrics"] },
  funnel: { title: "Funnel", api: "funnel", groups: "" },
  campaigns: { title: "Campaigns", api: "revenue", fixed: { groupBy: "campaignId", metrics: "averageOrderValue", top: "1000" }, groups: "", hidden: ["interval", "campaignId"] },
  cities: { title: "Cities", api: "demographics", fixed: { groupBy: "city", metrics: "events,revenue", top: "1000" }, groups: "", hidden: ["interval"] },
  demographics: { title: "Audience", api: "demographics", groups: "ageBand,gender,country,followers,device" },
};
