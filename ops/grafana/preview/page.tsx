/**
 * Renders one dashboard from its JSON with Grafana's own components: /?dashboard=overview&theme=dark&minutes=15
 *
 *     JSON --queries--> frames --field configuration--> panels, where gridPos puts them
 *
 * Supports the panels that the dashboards use: stat, timeseries and bargauge, in rows.
 */
import {
  applyFieldOverrides,
  createTheme,
  type DataFrame,
  FieldColorModeId,
  FieldConfigOptionsRegistry,
  type FieldConfigSource,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  type GrafanaTheme2,
  type ReduceDataOptions,
  ThemeContext,
  type VizOrientation,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import {
  BarGauge,
  type BarGaugeDisplayMode,
  BigValue,
  type BigValueColorMode,
  BigValueGraphMode,
  type BigValueTextMode,
  GlobalStyles,
  PanelChrome,
  TimeSeries,
  type UPlotConfigBuilder,
  VizRepeater,
} from '@grafana/ui';
import type { VizLegendOptions } from '@grafana/schema';
import { useEffect, useLayoutEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import type uPlot from 'uplot';

import { type Annotation, frames, type Mark, marks, type Target, timeRange, type Window } from './queries';

type Panel = {
  id: number;
  type: 'row' | 'stat' | 'timeseries' | 'bargauge';
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets: Target[];
  fieldConfig: FieldConfigSource;
  links?: { title: string; url: string }[];
  options: {
    reduceOptions: ReduceDataOptions;
    legend: VizLegendOptions;
    colorMode: BigValueColorMode;
    graphMode: BigValueGraphMode;
    textMode: BigValueTextMode;
    displayMode: BarGaugeDisplayMode;
    orientation: VizOrientation;
  };
};
type Dashboard = {
  title: string;
  panels: Panel[];
  annotations: { list: Annotation[] };
  templating: { list: { name: string; label?: string; type: string }[] };
  links: { title: string }[];
};
type Shown = { panel: Panel; data: DataFrame[]; theme: GrafanaTheme2; window: Window; width: number; height: number };

const params = new URLSearchParams(location.search);
const WIDTH = Number(params.get('width') ?? 1600);
// Grafana's grid.
const [ROW, GAP, COLUMNS, PADDING] = [30, 8, 24, 16];
const COLUMN = (WIDTH - 2 * PADDING + GAP) / COLUMNS - GAP;
const pixels = (cells: number, cell: number) => cells * (cell + GAP) - GAP;

const asItIs = (text: string) => text;

/** A registry of the options that panels set: the Grafana application fills its registry, the library does not. */
function optionsOf({ defaults, overrides }: FieldConfigSource): FieldConfigOptionsRegistry {
  const custom = Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`);
  const set = [...Object.keys(defaults), ...custom, ...overrides.flatMap((one) => one.properties.map(({ id }) => id))];
  return new FieldConfigOptionsRegistry(() =>
    [...new Set(set)]
      .filter((id) => id !== 'custom')
      .map((id) => ({
        id,
        path: id.replace('custom.', ''),
        isCustom: id.startsWith('custom.'),
        name: id,
        editor: () => null,
        override: () => null,
        process: (value: unknown) => value,
        shouldApply: () => true,
      })),
  );
}

/** Grafana's default colour modes, for panels whose JSON has none. */
function withColours({ type, fieldConfig }: Panel): FieldConfigSource {
  const mode = type === 'timeseries' ? FieldColorModeId.PaletteClassic : FieldColorModeId.Thresholds;
  return { ...fieldConfig, defaults: { color: { mode }, ...fieldConfig.defaults } };
}

function values({ panel, data, theme }: Shown, sparkline: boolean) {
  const { options, fieldConfig } = panel;
  const { reduceOptions } = options;
  return getFieldDisplayValues({ data, theme, fieldConfig, reduceOptions, replaceVariables: asItIs, sparkline });
}

function Stat(shown: Shown) {
  const { colorMode, graphMode, textMode, orientation } = shown.panel.options;
  return (
    <VizRepeater
      {...shown}
      source={shown.data}
      renderCounter={0}
      orientation={orientation}
      getValues={() => values(shown, graphMode !== BigValueGraphMode.None)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, width, height, alignmentFactors, count }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline && { ...value.sparkline, timeRange: timeRange(shown.window) }}
          {...{ width, height, colorMode, graphMode, textMode, alignmentFactors, count }}
          theme={shown.theme}
        />
      )}
    />
  );
}

function Bars(shown: Shown) {
  const { displayMode, orientation } = shown.panel.options;
  return (
    <VizRepeater
      {...shown}
      source={shown.data}
      renderCounter={0}
      orientation={orientation}
      itemSpacing={10}
      minVizHeight={16}
      maxVizHeight={300}
      getValues={() => values(shown, false)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, width, height, alignmentFactors }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)}
          {...{ width, height, displayMode, orientation, alignmentFactors }}
          theme={shown.theme}
          isOverflow={false}
          showUnfilled
        />
      )}
    />
  );
}

function Curves({ panel, data, theme, window, width, height, marks: lines }: Shown & { marks: Mark[] }) {
  return (
    <TimeSeries
      {...{ width, height }}
      frames={data}
      timeRange={timeRange(window)}
      timeZone="utc"
      legend={panel.options.legend}
    >
      {(builder) => <Marks {...{ builder, theme }} marks={lines} />}
    </TimeSeries>
  );
}

/** Annotations of deploys and migrations: one dashed line each. */
function Marks({ builder, marks: lines, theme }: { builder: UPlotConfigBuilder; marks: Mark[]; theme: GrafanaTheme2 }) {
  useLayoutEffect(() => {
    builder.addHook('draw', (plot: uPlot) => {
      const { left, top, width, height } = plot.bbox;
      plot.ctx.save();
      plot.ctx.setLineDash([5, 5]);
      for (const { at, colour } of lines) {
        const x = Math.round(plot.valToPos(at, 'x', true));
        if (x < left || x > left + width) continue;
        plot.ctx.strokeStyle = theme.visualization.getColorByName(colour);
        plot.ctx.beginPath();
        plot.ctx.moveTo(x, top);
        plot.ctx.lineTo(x, top + height);
        plot.ctx.stroke();
      }
      plot.ctx.restore();
    });
  }, [builder]);
  return null;
}

function Framed(given: { panel: Panel; theme: GrafanaTheme2; window: Window; marks: Mark[]; onDrawn: () => void }) {
  const { panel, theme, window, onDrawn } = given;
  const { x, y, w, h } = panel.gridPos;
  const [data, setData] = useState<DataFrame[]>();
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    frames(panel.targets, window)
      .then((data) => {
        const fieldConfig = withColours(panel);
        const fieldConfigRegistry = optionsOf(fieldConfig);
        setData(applyFieldOverrides({ data, theme, fieldConfig, fieldConfigRegistry, replaceVariables: asItIs }));
      })
      .catch((error: Error) => setWrong(error.message))
      .finally(onDrawn);
  }, []);
  const draw = (width: number, height: number) => {
    if (wrong || data?.length === 0) return <b style={{ color: 'red' }}>{wrong || 'No data'}</b>;
    if (!data) return null;
    const shown = { panel, data, theme, window, width, height };
    if (panel.type === 'stat') return <Stat {...shown} />;
    if (panel.type === 'bargauge') return <Bars {...shown} />;
    return <Curves {...shown} marks={given.marks} />;
  };
  return (
    <div style={{ position: 'absolute', left: pixels(x, COLUMN) + GAP, top: pixels(y, ROW) + GAP }}>
      <PanelChrome
        title={panel.title}
        description={[panel.description, ...(panel.links ?? []).map(({ title }) => title)].join('\n\n')}
        width={pixels(w, COLUMN)}
        height={pixels(h, ROW)}
      >
        {draw}
      </PanelChrome>
    </div>
  );
}

function Row({ panel: { title, gridPos } }: { panel: Panel }) {
  const top = pixels(gridPos.y, ROW) + GAP;
  return <h4 style={{ position: 'absolute', left: GAP, top, margin: 0, lineHeight: `${ROW}px` }}>⌄ {title}</h4>;
}

function Page({ dashboard, window, marks }: { dashboard: Dashboard; window: Window; marks: Mark[] }) {
  const theme = createTheme({ colors: { mode: params.get('theme') === 'light' ? 'light' : 'dark' } });
  const bottom = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const [drawn, setDrawn] = useState(0);
  const graphs = dashboard.panels.filter(({ type }) => type !== 'row');
  const onDrawn = () => setDrawn((before) => before + 1);
  const variables = dashboard.templating.list.filter(({ type }) => type !== 'constant');
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div id={drawn === graphs.length ? 'drawn' : 'drawing'} style={{ width: WIDTH, padding: PADDING }}>
        <div style={{ display: 'flex', gap: 24, alignItems: 'baseline', height: 32 }}>
          <h3>{dashboard.title}</h3>
          {variables.map(({ name, label, type }) => (
            <span key={name}>
              {label}: <b>{type === 'datasource' ? params.get('environment') ?? 'local' : 'All'}</b>
            </span>
          ))}
          <span style={{ marginLeft: 'auto' }}>{dashboard.links.map(({ title }) => title).join(' · ')}</span>
        </div>
        <div style={{ position: 'relative', height: pixels(bottom, ROW) + GAP, margin: `0 -${GAP}px` }}>
          {dashboard.panels.map((panel) =>
            panel.type === 'row' ? (
              <Row key={panel.id} panel={panel} />
            ) : (
              <Framed key={panel.id} {...{ panel, theme, window, marks, onDrawn }} />
            ),
          )}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

async function main() {
  await initPluginTranslations('preview');
  const to = Math.floor(Number(params.get('to') ?? Date.now() / 1000));
  const from = to - 60 * Number(params.get('minutes') ?? 15);
  const scrape = Number(params.get('scrape') ?? 5);
  const step = Math.max(scrape, Math.ceil((to - from) / (WIDTH / 2)));
  const window = { from, to, step, scrape };
  const dashboard: Dashboard = await (await fetch(`/dashboards/${params.get('dashboard') ?? 'overview'}.json`)).json();
  const lines = await marks(dashboard.annotations.list, window);
  createRoot(document.body).render(<Page dashboard={dashboard} window={window} marks={lines} />);
}

main();
