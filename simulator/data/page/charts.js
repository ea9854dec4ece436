// Draws every chart of the page in the colours of the theme, and again when the theme changes.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = (layout) => {
    const axis = { gridcolor: shade("--line"), zerolinecolor: shade("--line"), linecolor: shade("--line"), automargin: true };
    const result = {
      ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 13, color: shade("--text") },
      hoverlabel: { bgcolor: shade("--card"), bordercolor: shade("--line"), font: { color: shade("--text") } },
    };
    for (const name of ["xaxis", "yaxis"]) {
      const own = layout[name] ?? {};
      result[name] = { ...axis, ...own, title: { standoff: 8, font: { size: 13, color: shade("--soft") }, ...own.title } };
    }
    return result;
  };
  const draw = () => {
    for (const [id, chart] of Object.entries(charts)) {
      Plotly.react(id, chart.data, themed(chart.layout), { displayModeBar: false, responsive: true });
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
