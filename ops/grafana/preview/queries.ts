/**
 * Runs a dashboard's queries on Prometheus like Grafana's data source: variables are replaced, and each series is one
 * data frame, named by its legend.
 */
import { createDataFrame, type DataFrame, dateTime, FieldType, type TimeRange } from '@grafana/data';

export type Target = { expr: string; refId: string; legendFormat?: string; instant?: boolean };
export type Annotation = { name: string; iconColor: string; expr?: string };
export type Mark = { at: number; colour: string };
type Series = { metric: Record<string, string>; values?: [number, string][]; value?: [number, string] };

/** The time range, its resolution and the scrape interval, in seconds. */
export type Window = { from: number; to: number; step: number; scrape: number };

export const timeRange = ({ from, to }: Window): TimeRange => {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000) };
  return { ...range, raw: range };
};

/** Values of Grafana's built-in variables; the dashboards' own are at "All". */
const filled = (expression: string, { from, to, step, scrape }: Window): string =>
  expression
    .replaceAll('$__rate_interval', `${Math.max(step + scrape, 4 * scrape)}s`)
    .replaceAll('$__range', `${to - from}s`)
    .replace(/\$(source|instance)\b/g, '.*');

async function ask(path: string, query: Record<string, string>): Promise<Series[]> {
  const response = await fetch(`/api/v1/${path}?${new URLSearchParams(query)}`);
  const body = await response.json();
  if (body.status !== 'success') throw new Error(`${query.query}: ${body.error}`);
  return body.data.result;
}

const range = (expression: string, window: Window) =>
  ask('query_range', {
    query: filled(expression, window),
    start: `${window.from}`,
    end: `${window.to}`,
    step: `${window.step}`,
  });

/** Returns the frames of a panel's queries, in order. */
export async function frames(targets: Target[], window: Window): Promise<DataFrame[]> {
  const answers = targets.map(async (target) => {
    const query = { query: filled(target.expr, window), time: `${window.to}` };
    const series = target.instant ? await ask('query', query) : await range(target.expr, window);
    return series.map((one) => frame(one, target));
  });
  return (await Promise.all(answers)).flat();
}

function frame({ metric, values, value }: Series, { refId, legendFormat }: Target): DataFrame {
  const points = values ?? (value ? [value] : []);
  const name = legendFormat?.replace(/{{\s*(\w+)\s*}}/g, (_, label) => metric[label] ?? '') || refId;
  return createDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: points.map(([at]) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels: metric,
        config: { displayNameFromDS: name },
        values: points.map(([, text]) => (text === 'NaN' ? null : Number(text))),
      },
    ],
  });
}

/** Returns the instants at which an annotation's query begins to return values. */
export async function marks(annotations: Annotation[], window: Window): Promise<Mark[]> {
  const answers = annotations.map(async ({ expr, iconColor }) => {
    const series = expr ? await range(expr, window) : [];
    return series.flatMap(({ values = [] }) =>
      values
        .filter(([at], i) => at - (values[i - 1]?.[0] ?? 0) > window.step)
        .map(([at]) => ({ at: at * 1000, colour: iconColor })),
    );
  });
  return (await Promise.all(answers)).flat();
}
